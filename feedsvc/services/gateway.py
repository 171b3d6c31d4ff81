"""SubscribeFeeds: many subscriptions on one stream."""

import asyncio
import time
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Any, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import validate
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry, LogLost, ReadResult
from feedsvc.core.streams import LogCursor, Stream, StreamOver
from feedsvc.errors import InvalidRequest, StoreUnavailable, TooManySubscriptions
from feedsvc.services.items import FeedQuery
from feedsvc.services.sender import Sender
from feedsvc.services.subjects import GatewaySubject
from feedsvc.status import status_of
from feedsvc.tokens import Tokens

#: Users that are added at a time, and messages about that which wait to be sent.
ADDED_AT_ONCE = 32
#: Seconds after which a store that did not answer is tried again.
TRY_AGAIN_SECONDS = 0.5
#: Seconds without a request after which a stream ends that has told its client where it is, and
#: seconds after which it ends all the same. A client of grpc.aio that writes when the status comes
#: is told INTERNAL instead of it.
LINGER_SECONDS, MOST_LINGER_SECONDS = 0.1, 1.0

_ALIVE = pb.SubscribeFeedsResponse(heartbeat=pb.Heartbeat()).SerializeToString()


class _Subscription:
    """A subscription of the stream."""

    def __init__(self, subscription_id: str, subject: GatewaySubject) -> None:
        self.id = subscription_id
        self.subject = subject
        self.reader: LogCursor | None = None
        """None: not there yet."""
        self.answered = False
        """Whether the request that added it was. One with a token is when its log has been read."""


class Gateway:
    """One stream of SubscribeFeeds."""

    def __init__(
        self, engine: Engine, tokens: Tokens, stream: Stream, send: Sender, max_subscriptions: int
    ) -> None:
        self._engine = engine
        self._tokens = tokens
        self._stream = stream
        self._send = send
        self._max_subscriptions = max_subscriptions
        self._subscriptions: dict[str, _Subscription] = {}
        self._messages = asyncio.Queue[bytes](ADDED_AT_ONCE)
        self._adding = asyncio.Semaphore(ADDED_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._ending = False
        self._requested = 0
        """Requests that have come."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._taking is not None:
            self._tasks.add(self._taking)
        await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def run(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        """Does what the client asks for, and sends what the logs say, until the stream is over."""
        self._taking = asyncio.create_task(self._take(requests))
        while True:
            try:
                found = await self._stream.next()
            except StreamOver:
                await self._end()
                raise
            if self._failed is not None:
                raise self._failed
            await self._say_all()
            for reader, told in found:
                await self._tell(reader, told)
            if self._send.quiet:
                await self._send(_ALIVE)

    async def _say_all(self) -> None:
        while not self._messages.empty():
            await self._send(self._messages.get_nowait())

    async def _end(self) -> None:
        """Does nothing more. The last message of each subscription says where it is."""
        self._ending = True
        await self._stop()
        await self._say_all()
        for subscription in self._subscriptions.values():
            if subscription.answered:
                await self._send(subscription.subject.heartbeat())
        await self._linger()

    async def _linger(self) -> None:
        """Waits until the client reads what was sent, and writes no more."""
        until, seen = time.monotonic() + MOST_LINGER_SECONDS, -1
        while seen != self._requested and time.monotonic() < until:
            seen = self._requested
            await asyncio.sleep(LINGER_SECONDS)

    async def _tell(self, reader: LogCursor, found: ReadResult) -> None:
        subscription: _Subscription = reader.tag
        if reader.closed:
            return
        match found:
            case LogLost():
                await self._reset(subscription)
            case StoreUnavailable():
                self._try_again(subscription, reader)
            case Exception():  # a defect, of which the others know nothing
                await self._lose(subscription, found)
            case _:
                await self._tell_events(subscription, reader, found)

    async def _tell_events(
        self, subscription: _Subscription, reader: LogCursor, entries: list[Entry]
    ) -> None:
        subject = subscription.subject
        try:
            events = await subject.events(entries)
        except StoreUnavailable:
            self._try_again(subscription, reader)
            return
        except Exception as error:  # noqa: BLE001 (the others are not to know)
            await self._lose(subscription, error)
            return
        if reader.closed:  # it was removed, or begun anew, which its own messages say
            return
        if not subscription.answered:
            subscription.answered = True
            await self._send(subject.beginning(pb.SUBSCRIPTION_START_RESUMED))
        # Its token is that of what was sent, while the reader may be ahead of that.
        for message in subject.messages([(0, entries, events)]):
            await self._send(message)

    def _try_again(self, subscription: _Subscription, reader: LogCursor) -> None:
        """Reads a log again in a while, from behind what was sent.

        What was read behind that meanwhile is dropped with the old reader, and found again.
        """
        self._stream.leave(reader)

        def again() -> None:
            if (
                subscription.reader is reader
                and self._has(subscription)
                and not self._stream.closed
            ):
                self._follow(subscription)

        asyncio.get_running_loop().call_later(TRY_AGAIN_SECONDS, again)

    async def _reset(self, subscription: _Subscription) -> None:
        """A log was lost: the subscription goes on with a new one."""
        try:
            places = await subscription.subject.open()
        except Exception as error:  # noqa: BLE001 (the others are not to know)
            await self._lose(subscription, error)
            return
        if not self._has(subscription):  # it was removed, or begun anew
            return
        subscription.subject.places = places
        subscription.answered = True
        self._follow(subscription)
        await self._send(subscription.subject.beginning(pb.SUBSCRIPTION_START_RESET))

    async def _lose(self, subscription: _Subscription, error: Exception) -> None:
        """A subscription cannot stay."""
        if self._has(subscription):
            self._drop(subscription.id)
            await self._send(_failure(subscription.id, error))

    def _follow(self, subscription: _Subscription) -> None:
        if subscription.reader is not None:
            self._stream.leave(subscription.reader)
        (log,), (place,) = subscription.subject.logs(), subscription.subject.places
        subscription.reader = self._stream.follow(log, place, subscription)

    # What the client asks for.

    async def _take(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        try:
            async for request in requests:
                self._requested += 1
                if not self._ending:
                    await self._do(request)
        except Exception as error:  # noqa: BLE001 (it is raised where the stream is run)
            self._failed = error
            self._stream.wake()

    async def _do(self, request: pb.SubscribeFeedsRequest) -> None:
        subscription_id = getattr(request, request.WhichOneof("action") or "add").subscription_id
        try:
            validate.check(request)
        except InvalidRequest as error:
            self._drop(subscription_id)
            await self._say(_failure(subscription_id, error))
            return
        self._drop(subscription_id)
        if request.WhichOneof("action") == "remove":
            gone = pb.SubscribeFeedsResponse(
                subscription_id=subscription_id, removed=pb.FeedSubscriptionRemoved()
            )
            await self._say(gone.SerializeToString())
            return
        most = self._max_subscriptions
        if len(self._subscriptions) >= most:
            full = TooManySubscriptions(f"the stream has {most} subscriptions already", most)
            await self._say(_failure(subscription_id, full))
            return
        add = request.add
        subject = GatewaySubject(
            self._engine,
            self._tokens,
            FeedQuery.of(add),
            pb.SubscribeFeedsResponse(subscription_id=subscription_id).SerializeToString(),
        )
        subscription = _Subscription(subscription_id, subject)
        self._subscriptions[subscription_id] = subscription
        await self._adding.acquire()
        if not self._ending:
            self._begin(self._add(subscription, add))

    async def _add(self, subscription: _Subscription, request: pb.AddFeedSubscription) -> None:
        """Begins with a subscription, unless it is removed or begun anew meanwhile."""
        subject = subscription.subject
        try:
            try:
                if request.initial_page_size:
                    page = await subject.first_page(request.initial_page_size)
                    first = subject.beginning(pb.SUBSCRIPTION_START_NEW, page)
                elif request.resume_token:
                    # Not answered with that token, to which the log may not reach back any more.
                    subject.places = subject.read_token(request.resume_token)
                    if self._has(subscription):
                        self._follow(subscription)
                    return
                else:
                    await subject.begin("")
                    first = subject.beginning(pb.SUBSCRIPTION_START_NEW)
            except Exception as error:  # noqa: BLE001 (the others are not to know)
                if self._has(subscription):
                    self._drop(subscription.id)
                    await self._say(_failure(subscription.id, error))
                return
            if not self._has(subscription):
                return
            await self._say(first)
            if self._has(subscription):
                subscription.answered = True
                self._follow(subscription)
        finally:
            self._adding.release()

    def _has(self, subscription: _Subscription) -> bool:
        return self._subscriptions.get(subscription.id) is subscription

    def _drop(self, subscription_id: str) -> None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None and subscription.reader is not None:
            self._stream.leave(subscription.reader)

    async def _say(self, message: bytes) -> None:
        await self._messages.put(message)
        self._stream.wake()

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _failure(subscription_id: str, error: Exception) -> bytes:
    """What a request is answered with that failed, or what ends a subscription.

    A name that is longer than any may be is not repeated: an answer has a bound.
    """
    long = len(subscription_id.encode()) > validate.SUBSCRIPTION_ID_BYTES
    return pb.SubscribeFeedsResponse(
        subscription_id="" if long else subscription_id, error=status_of(error)
    ).SerializeToString()
