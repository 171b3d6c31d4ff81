"""SubscriptionService: streams that follow logs, and the same by polling."""

import contextlib
from collections.abc import AsyncIterable, Iterator
from typing import Any

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceServicer

from feedsvc.config import Config
from feedsvc.core.engine import Engine
from feedsvc.core.live import LogLost
from feedsvc.core.streams import ENTRIES_A_READ, Entry, Stream, StreamOver
from feedsvc.errors import Draining, FeedError, StreamExpired
from feedsvc.services.gateway import Gateway
from feedsvc.services.sender import Sender
from feedsvc.services.subjects import AllSubject, FeedSubject, OutboxSubject, Subject
from feedsvc.tokens import Tokens


# Handlers are coroutines that write, not generators: the `finally` of a generator may run in
# another task.
class SubscriptionService(SubscriptionServiceServicer):
    def __init__(self, engine: Engine, tokens: Tokens, config: Config) -> None:
        self._engine = engine
        self._tokens = tokens
        self._config = config

    async def SubscribeFeed(  # type: ignore[override]
        self, request: pb.SubscribeFeedRequest, context: Any
    ) -> None:
        subject = FeedSubject(self._engine, self._tokens, request.user, request.viewer)
        with self._stream() as stream:
            send = Sender(stream, context, self._config)
            if request.initial_page_size:
                page = await subject.first_page(request.initial_page_size)
                await send(subject.message([subject.created()], page=page))
            else:
                await self._begin(subject, request.resume_token, send)
            await self._follow(subject, stream, send)

    async def SubscribeActivities(  # type: ignore[override]
        self, request: pb.SubscribeActivitiesRequest, context: Any
    ) -> None:
        subject = OutboxSubject(self._engine, self._tokens, request.entity, request.viewer)
        with self._stream() as stream:
            send = Sender(stream, context, self._config)
            await self._begin(subject, request.resume_token, send)
            await self._follow(subject, stream, send)

    async def SubscribeAll(  # type: ignore[override]
        self, request: pb.SubscribeAllRequest, context: Any
    ) -> None:
        subject = AllSubject(self._engine, self._tokens)
        with self._stream() as stream:
            send = Sender(stream, context, self._config)
            await self._begin(subject, request.resume_token, send)
            await self._follow(subject, stream, send)

    async def SubscribeFeeds(  # type: ignore[override]
        self, requests: AsyncIterable[pb.SubscribeFeedsRequest], context: Any
    ) -> None:
        with self._stream() as stream:
            send = Sender(stream, context, self._config)
            async with Gateway(
                self._engine, self._tokens, stream, send, self._config.max_users
            ) as gateway:
                await gateway.run(requests)

    async def GetFeedEvents(
        self, request: pb.GetFeedEventsRequest, context: Any
    ) -> pb.GetFeedEventsResponse:
        subject = FeedSubject(
            *(self._engine, self._tokens, request.user, request.viewer), pb.GetFeedEventsResponse
        )
        events = await subject.begin(request.resume_token)
        found = 0
        if not events:
            (log,), (place,) = subject.logs(), subject.places
            try:
                entries = await self._engine.live.read(log, place)
            except LogLost:
                raise await subject.expired() from None
            found = len(entries)
            if entries:
                subject.places = [entries[-1].place]
                events = await subject.events(entries)
        message = subject.message(events, more=found == ENTRIES_A_READ)
        return pb.GetFeedEventsResponse.FromString(message)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Stream]:
        """A stream. Raises the error that a client is told when it is over."""
        with self._engine.live.stream() as stream:
            try:
                yield stream
            except StreamOver:
                raise self._over() from None

    def _over(self) -> FeedError:
        if self._engine.live.draining:
            return Draining("this server is stopping: come again with the last resume_token")
        return StreamExpired("the stream has lived long enough: come again with the last token")

    async def _begin(self, subject: Subject, resume_token: str, send: Sender) -> None:
        if events := await subject.begin(resume_token):
            await send(subject.message(events))

    async def _follow(self, subject: Subject, stream: Stream, send: Sender) -> None:
        """Sends what the logs of a subject say, until the stream is over."""
        subject.follow(stream)
        while True:
            try:
                found = await stream.next()
            except StreamOver:
                await send(subject.message([]))
                raise
            entries: list[Entry] = []
            for reader, told in found:
                if isinstance(told, LogLost):
                    raise await subject.expired() from None
                if isinstance(told, Exception):
                    raise told
                subject.places[reader.tag] = reader.place
                entries += told
            events = await subject.events(entries) if entries else []
            # A checkpoint says that until now nothing has happened, and so follows a read.
            if events or (found and send.quiet and stream.all_read):
                await send(subject.message(events))
