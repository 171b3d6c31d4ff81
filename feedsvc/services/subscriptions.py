"""SubscriptionService: streams that follow logs, and the same by polling."""

import contextlib
from collections.abc import AsyncIterable, Iterator, Sequence
from typing import Any

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceServicer

from feedsvc.config import Config
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry, LogLost, ReadResult
from feedsvc.core.streams import LogCursor, Stream, StreamOver
from feedsvc.errors import Draining, FeedError, StreamExpired, TooManyStreams
from feedsvc.services.gateway import Gateway
from feedsvc.services.items import FeedQuery, view_name
from feedsvc.services.sender import Sender
from feedsvc.services.subjects import AllSubject, FeedSubject, OutboxSubject, Subject
from feedsvc.tokens import Tokens

Told = tuple[int, list[Entry], list[bytes]]
"""Of a log that was read: its number, its entries, and the event of each."""


# Handlers are coroutines that write, not generators: the `finally` of a generator may run in
# another task.
class SubscriptionService(SubscriptionServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens, config: Config) -> None:
        self._engine = engine
        self._tokens = tokens
        self._config = config
        self._streams = 0
        """Calls that have not ended."""

    async def SubscribeFeed(  # type: ignore[override]
        self, request: pb.SubscribeFeedRequest, context: Any
    ) -> None:
        subject = self._feed(request)
        with self._stream(context) as stream:
            send = Sender(stream, context, self._config)
            if request.initial_page_size:
                page = await subject.first_page(request.initial_page_size)
                await send(subject.beginning(pb.SUBSCRIPTION_START_NEW, page))
                await self._follow(subject, stream, send)
            else:
                await self._run(subject, request.resume_token, stream, send)

    async def SubscribeActivities(  # type: ignore[override]
        self, request: pb.SubscribeActivitiesRequest, context: Any
    ) -> None:
        subject = OutboxSubject(
            *(self._engine, self._tokens, request.entity, request.viewer, view_name(request.view))
        )
        with self._stream(context) as stream:
            send = Sender(stream, context, self._config)
            await self._run(subject, request.resume_token, stream, send)

    async def SubscribeAll(  # type: ignore[override]
        self, request: pb.SubscribeAllRequest, context: Any
    ) -> None:
        subject = AllSubject(self._engine, self._tokens, view_name(request.view))
        with self._stream(context) as stream:
            send = Sender(stream, context, self._config)
            await self._run(subject, request.resume_token, stream, send)

    async def SubscribeFeeds(  # type: ignore[override]
        self, requests: AsyncIterable[pb.SubscribeFeedsRequest], context: Any
    ) -> None:
        with self._stream(context) as stream:
            send = Sender(stream, context, self._config)
            async with Gateway(
                self._engine, self._tokens, stream, send, self._config.max_subscriptions
            ) as gateway:
                await gateway.run(requests)

    async def GetFeedEvents(
        self, request: pb.GetFeedEventsRequest, context: Any
    ) -> pb.GetFeedEventsResponse:
        subject = self._feed(request)
        await subject.begin(request.resume_token)
        if not request.resume_token:
            return pb.GetFeedEventsResponse(resume_token=subject.token())
        (log,), (place,) = subject.logs(), subject.places
        try:
            entries, more = await self._engine.logs.read(log, place)
        except LogLost:
            raise await subject.expired() from None
        messages = subject.messages([(0, entries, await subject.events(entries))])
        # The first message is the answer; the token of what does not fit in it leads to the rest.
        first = pb.SubscribeFeedResponse.FromString(next(messages, b"") or subject.heartbeat())
        return pb.GetFeedEventsResponse(
            resume_token=first.resume_token,
            events=first.events.events,
            more=more or (bool(entries) and subject.places != [entries[-1].place]),
        )

    def _feed(self, request: pb.SubscribeFeedRequest | pb.GetFeedEventsRequest) -> FeedSubject:
        return FeedSubject(self._engine, self._tokens, FeedQuery.of(request))

    @contextlib.contextmanager
    def _stream(self, context: Any) -> Iterator[Stream]:
        """A stream. Raises TooManyStreams, and the error that a client is told when it is over."""
        if self._streams >= self._config.max_streams:
            raise TooManyStreams(
                "this server has as many streams as it may: come again, to another one if you can"
            )
        self._streams += 1
        # Not when the handler ends: until its client reads on, what was sent last takes memory.
        context.add_done_callback(self._ended)
        with self._engine.live.stream() as stream:
            try:
                yield stream
            except StreamOver:
                raise self._over() from None

    def _ended(self, _: Any) -> None:
        self._streams -= 1

    def _over(self) -> FeedError:
        if self._engine.live.draining:
            return Draining("this server is stopping: come again with the last resume_token")
        return StreamExpired("the stream has lived long enough: come again with the last token")

    async def _run(self, subject: Subject, resume_token: str, stream: Stream, send: Sender) -> None:
        await subject.begin(resume_token)
        if not resume_token:
            await send(subject.beginning(pb.SUBSCRIPTION_START_NEW))
        await self._follow(subject, stream, send, resuming=bool(resume_token))

    async def _follow(
        self, subject: Subject, stream: Stream, send: Sender, *, resuming: bool = False
    ) -> None:
        """Send what the logs of a subject say, until the stream is over.

        ``resuming``: the stream is yet to say that it has begun, once it is known whether the logs
        reach back to its token.
        """
        subject.follow(stream)
        while True:
            try:
                found = await stream.next()
            except StreamOver:
                if not resuming:  # else it is not known whether the logs reach back to the token
                    await send(subject.heartbeat())
                raise
            told = await self._told(subject, found)
            if resuming and found:
                resuming = False
                await send(subject.beginning(pb.SUBSCRIPTION_START_RESUMED))
            for message in subject.messages(told):
                await send(message)
            # A heartbeat's token says that until now nothing has happened, and so follows a read.
            if found and send.quiet and stream.all_read:
                await send(subject.heartbeat())

    async def _told(
        self, subject: Subject, found: Sequence[tuple[LogCursor, ReadResult]]
    ) -> list[Told]:
        """What is to be sent of what was read. Raises the error that ends the stream."""
        told: list[Told] = []
        for reader, entries in found:
            if isinstance(entries, LogLost):
                raise await subject.expired() from None
            if isinstance(entries, Exception):
                raise entries
            if entries:
                told.append((reader.tag, entries, await subject.events(entries)))
        return told
