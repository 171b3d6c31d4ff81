"""SubscriptionService: streams that follow logs, and the same events by polling."""

import contextlib
from collections.abc import AsyncIterable, Iterator, Sequence
from typing import Any

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceServicer

from feedsvc.config import Config
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import LogLost, ReadResult
from feedsvc.core.streams import LogCursor, Stream, StreamOver
from feedsvc.errors import Draining, FeedError, StreamExpired, TooManyStreams
from feedsvc.failed_calls import Call
from feedsvc.services.event_sources import (
    AllEvents,
    EventSource,
    FeedEvents,
    LogEvents,
    OutboxEvents,
)
from feedsvc.services.feed_multiplexer import FeedMultiplexer
from feedsvc.services.feed_pages import FeedQuery, view_name
from feedsvc.services.message_writer import MessageWriter
from feedsvc.tokens import Tokens


# Handlers are coroutines that write, not generators: the `finally` of a generator may run in
# another task.
class SubscriptionService(SubscriptionServiceServicer):
    """Handlers of SubscriptionService."""

    def __init__(self, engine: Engine, tokens: Tokens, config: Config) -> None:
        self._engine = engine
        self._tokens = tokens
        self._config = config
        self._open_streams = 0
        """Number of stream calls that have not ended."""

    async def SubscribeFeed(  # type: ignore[override]
        self, request: pb.SubscribeFeedRequest, context: Any
    ) -> None:
        source = self._feed_events(request)
        with self._stream(context) as stream:
            writer = MessageWriter(stream, context, self._config)
            if request.initial_page_size:
                page = await source.first_page(request.initial_page_size)
                await writer.write(source.started_message(pb.SUBSCRIPTION_START_NEW, page))
                await self._write_events(source, stream, writer)
            else:
                await self._run(source, request.resume_token, stream, writer)

    async def SubscribeActivities(  # type: ignore[override]
        self, request: pb.SubscribeActivitiesRequest, context: Any
    ) -> None:
        source = OutboxEvents(
            *(self._engine, self._tokens, request.entity, request.viewer, view_name(request.view))
        )
        with self._stream(context) as stream:
            writer = MessageWriter(stream, context, self._config)
            await self._run(source, request.resume_token, stream, writer)

    async def SubscribeAll(  # type: ignore[override]
        self, request: pb.SubscribeAllRequest, context: Any
    ) -> None:
        source = AllEvents(self._engine, self._tokens, view_name(request.view))
        with self._stream(context) as stream:
            writer = MessageWriter(stream, context, self._config)
            await self._run(source, request.resume_token, stream, writer)

    async def SubscribeFeeds(  # type: ignore[override]
        self, requests: AsyncIterable[pb.SubscribeFeedsRequest], context: Any
    ) -> None:
        with self._stream(context) as stream:
            writer = MessageWriter(stream, context, self._config)
            async with FeedMultiplexer(
                *(self._engine, self._tokens, stream, writer),
                max_subscriptions=self._config.max_subscriptions,
                call=Call("SubscribeFeeds", context),
            ) as multiplexer:
                await multiplexer.run(requests)

    async def GetFeedEvents(
        self, request: pb.GetFeedEventsRequest, context: Any
    ) -> pb.GetFeedEventsResponse:
        source = self._feed_events(request)
        await source.begin(request.resume_token)
        if not request.resume_token:
            return pb.GetFeedEventsResponse(resume_token=source.resume_token())
        (log,), (log_position,) = source.logs(), source.log_positions
        try:
            entries, log_has_more = await self._engine.logs.read(log, log_position)
        except LogLost:
            raise await source.expired_error() from None
        events = await source.events(entries)
        messages = source.messages([LogEvents(0, entries, events)])
        # The first message is the answer. Its token leads to the events that do not fit in it.
        message = next(messages, b"") or source.heartbeat_message()
        first = pb.SubscribeFeedResponse.FromString(message)
        events_remain = bool(entries) and source.log_positions != [entries[-1].position]
        return pb.GetFeedEventsResponse(
            resume_token=first.resume_token,
            events=first.events.events,
            more=log_has_more or events_remain,
        )

    def _feed_events(
        self, request: pb.SubscribeFeedRequest | pb.GetFeedEventsRequest
    ) -> FeedEvents:
        return FeedEvents(self._engine, self._tokens, FeedQuery.of(request))

    @contextlib.contextmanager
    def _stream(self, context: Any) -> Iterator[Stream]:
        """Open a stream for a call.

        Raise TooManyStreams if the server has no room for it. When the stream is over, raise the
        error that tells the client why.
        """
        if self._open_streams >= self._config.max_streams:
            raise TooManyStreams(
                f"this server has {self._config.max_streams} streams, the most that it may have: "
                "subscribe again, at another server if possible"
            )
        self._open_streams += 1
        # A stream counts until its call ends, not until its handler does: the last messages take
        # memory until the client reads them.
        context.add_done_callback(self._count_ended_stream)
        with self._engine.live.stream() as stream:
            try:
                yield stream
            except StreamOver:
                raise self._end_error() from None

    def _count_ended_stream(self, _context: Any) -> None:
        self._open_streams -= 1

    def _end_error(self) -> FeedError:
        """Return the error that tells the client why a stream ended that did not fail."""
        if self._engine.live.draining:
            return Draining("this server is stopping: subscribe again with the last resume_token")
        return StreamExpired(
            "the stream has reached its time limit: subscribe again with the last resume_token"
        )

    async def _run(
        self, source: EventSource, resume_token: str, stream: Stream, writer: MessageWriter
    ) -> None:
        """Begin a source, and write its events until the stream is over."""
        await source.begin(resume_token)
        if not resume_token:
            await writer.write(source.started_message(pb.SUBSCRIPTION_START_NEW))
        await self._write_events(source, stream, writer, resuming=bool(resume_token))

    async def _write_events(
        self, source: EventSource, stream: Stream, writer: MessageWriter, *, resuming: bool = False
    ) -> None:
        """Write the events of a source's logs until the stream is over.

        ``resuming`` says that the started message is still to be written. Only the first read tells
        whether the logs reach back to the client's token.
        """
        source.follow(stream)
        while True:
            try:
                log_reads = await stream.next()
            except StreamOver:
                # While resuming, nothing is known about the logs: the client's own token is right.
                if not resuming:
                    await writer.write(source.heartbeat_message())
                raise
            log_events = await self._log_events(source, log_reads)
            if resuming and log_reads:
                resuming = False
                await writer.write(source.started_message(pb.SUBSCRIPTION_START_RESUMED))
            for message in source.messages(log_events):
                await writer.write(message)
            # The token of a heartbeat says that nothing else has happened until now. So a heartbeat
            # only follows a read, when every log has been read.
            if log_reads and writer.is_quiet and stream.all_read:
                await writer.write(source.heartbeat_message())

    async def _log_events(
        self, source: EventSource, log_reads: Sequence[tuple[LogCursor, ReadResult]]
    ) -> list[LogEvents]:
        """Return the events of the entries that were read. Raise the error that ends the stream."""
        log_events: list[LogEvents] = []
        for log_cursor, log_read in log_reads:
            if isinstance(log_read, LogLost):
                raise await source.expired_error() from None
            if isinstance(log_read, Exception):
                raise log_read
            if log_read:
                log_events.append(
                    LogEvents(log_cursor.tag, log_read, await source.events(log_read))
                )
        return log_events
