"""SubscribeFeeds: many subscriptions on one stream."""

import asyncio
import time
from collections.abc import AsyncIterable, Coroutine
from types import TracebackType
from typing import Any, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import validation
from feedsvc.contract_limits import SUBSCRIPTION_ID_BYTES
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry, LogLost, ReadResult
from feedsvc.core.streams import LogCursor, Stream, StreamOver
from feedsvc.error_mapping import status_of
from feedsvc.errors import InvalidRequest, StoreUnavailable, TooManySubscriptions
from feedsvc.failed_calls import Call
from feedsvc.services.event_sources import LogEvents, MultiplexedFeedEvents
from feedsvc.services.feed_pages import FeedQuery
from feedsvc.services.message_writer import MessageWriter
from feedsvc.tokens import Tokens

#: Subscriptions that a stream adds at a time, and messages from requests that wait to be written.
CONCURRENT_ADDS = 32
#: Seconds before a log is read again after the store did not answer.
READ_AGAIN_SECONDS = 0.5
#: Seconds without a request after which a stream whose last messages are written ends. A client of
#: grpc.aio that writes when the status arrives gets INTERNAL instead of the status.
LINGER_SECONDS = 0.1
#: Seconds after which the stream ends although requests still arrive.
MAX_LINGER_SECONDS = 1.0

_HEARTBEAT = pb.SubscribeFeedsResponse(heartbeat=pb.Heartbeat()).SerializeToString()


class _Subscription:
    """One subscription of the stream."""

    def __init__(self, subscription_id: str, source: MultiplexedFeedEvents) -> None:
        self.id = subscription_id
        self.source = source
        self.log_cursor: LogCursor | None = None
        """The stream's cursor in the feed's log; None: the stream does not follow the log yet."""
        self.is_started = False
        """True if the client has the answer to its request.

        The answer to a request with a token follows the first read of the log.
        """


class FeedMultiplexer:
    """One stream of SubscribeFeeds: carries out its requests and writes its subscriptions' events.

    An error of one subscription ends that subscription, not the stream.
    """

    def __init__(  # noqa: PLR0913 - the parts of a call
        self,
        engine: Engine,
        tokens: Tokens,
        stream: Stream,
        writer: MessageWriter,
        *,
        max_subscriptions: int,
        call: Call,
    ) -> None:
        """``call`` logs the subscriptions that fail."""
        self._engine = engine
        self._tokens = tokens
        self._stream = stream
        self._writer = writer
        self._max_subscriptions = max_subscriptions
        self._call = call
        self._subscriptions: dict[str, _Subscription] = {}
        self._queued_messages = asyncio.Queue[bytes](CONCURRENT_ADDS)
        self._add_slots = asyncio.Semaphore(CONCURRENT_ADDS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._request_reader: asyncio.Task[None] | None = None
        self._request_error: Exception | None = None
        """The error that ended the reading of requests."""
        self._ending = False
        self._request_count = 0
        """Number of requests that have arrived."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._request_reader is not None:
            self._tasks.add(self._request_reader)
        await self._cancel_tasks()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The writing side: one task writes all messages.

    async def run(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        """Carry out the requests and write the events of the logs until the stream is over.

        Raise StreamOver at the end, or the error that ended the reading of requests.
        """
        self._request_reader = asyncio.create_task(self._read_requests(requests))
        while True:
            try:
                log_reads = await self._stream.next()
            except StreamOver:
                await self._write_last_messages()
                raise
            if self._request_error is not None:
                raise self._request_error
            await self._write_queued_messages()
            for log_cursor, log_read in log_reads:
                await self._handle_log_read(log_cursor, log_read)
            if self._writer.is_quiet:
                await self._writer.write(_HEARTBEAT)

    async def _write_queued_messages(self) -> None:
        while not self._queued_messages.empty():
            await self._writer.write(self._queued_messages.get_nowait())

    async def _write_last_messages(self) -> None:
        """Stop all work, and write a last message with the token of each subscription."""
        self._ending = True
        await self._cancel_tasks()
        await self._write_queued_messages()
        for subscription in self._subscriptions.values():
            if subscription.is_started:
                await self._writer.write(subscription.source.heartbeat_message())
        await self._linger()

    async def _linger(self) -> None:
        """Wait until the client has read the last messages and sends no more requests."""
        until, seen_count = time.monotonic() + MAX_LINGER_SECONDS, -1
        while seen_count != self._request_count and time.monotonic() < until:
            seen_count = self._request_count
            await asyncio.sleep(LINGER_SECONDS)

    async def _handle_log_read(self, log_cursor: LogCursor, log_read: ReadResult) -> None:
        """Write the events, or act on the error, that a read of a subscription's log returned."""
        subscription: _Subscription = log_cursor.tag
        if log_cursor.closed:
            return
        match log_read:
            case LogLost():
                await self._reset(subscription)
            case StoreUnavailable():
                self._read_again_later(subscription, log_cursor)
            case Exception():  # a defect: the other subscriptions go on
                await self._fail(subscription, log_read)
            case _:
                await self._write_events(subscription, log_cursor, log_read)

    async def _write_events(
        self, subscription: _Subscription, log_cursor: LogCursor, entries: list[Entry]
    ) -> None:
        source = subscription.source
        try:
            events = await source.events(entries)
        except StoreUnavailable:
            self._read_again_later(subscription, log_cursor)
            return
        except Exception as error:  # noqa: BLE001 (the other subscriptions go on)
            await self._fail(subscription, error)
            return
        if log_cursor.closed:  # a request has removed or replaced the subscription, and is answered
            return
        if not subscription.is_started:
            subscription.is_started = True
            await self._writer.write(source.started_message(pb.SUBSCRIPTION_START_RESUMED))
        # A message's token is that of its last entry. The cursor may be ahead of that entry.
        for message in source.messages([LogEvents(0, entries, events)]):
            await self._writer.write(message)

    def _read_again_later(self, subscription: _Subscription, log_cursor: LogCursor) -> None:
        """Read a log again after a while, from behind the last entry that was written.

        The stream drops the old cursor, and with the cursor the entries that it has read but not
        written. A new cursor reads these entries again.
        """
        self._stream.leave(log_cursor)

        def read_again() -> None:
            if (
                subscription.log_cursor is log_cursor
                and self._is_current(subscription)
                and not self._stream.closed
            ):
                self._follow_log(subscription)

        asyncio.get_running_loop().call_later(READ_AGAIN_SECONDS, read_again)

    async def _reset(self, subscription: _Subscription) -> None:
        """Go on with a new log after the log of a subscription was lost."""
        try:
            log_positions = await subscription.source.open_logs()
        except Exception as error:  # noqa: BLE001 (the other subscriptions go on)
            await self._fail(subscription, error)
            return
        if not self._is_current(subscription):
            return
        subscription.source.log_positions = log_positions
        subscription.is_started = True
        self._follow_log(subscription)
        await self._writer.write(subscription.source.started_message(pb.SUBSCRIPTION_START_RESET))

    async def _fail(self, subscription: _Subscription, error: Exception) -> None:
        """Remove a subscription that cannot go on, and write its error."""
        if self._is_current(subscription):
            self._remove(subscription.id)
            await self._writer.write(self._error_message(subscription.id, error))

    def _follow_log(self, subscription: _Subscription) -> None:
        """Follow a subscription's log from its position, with a new cursor."""
        if subscription.log_cursor is not None:
            self._stream.leave(subscription.log_cursor)
        source = subscription.source
        (log,), (log_position,) = source.logs(), source.log_positions
        subscription.log_cursor = self._stream.follow(log, log_position, subscription)

    # The reading side: one task reads the requests, others add subscriptions. They queue messages.

    async def _read_requests(self, requests: AsyncIterable[pb.SubscribeFeedsRequest]) -> None:
        try:
            async for request in requests:
                self._request_count += 1
                if not self._ending:
                    await self._carry_out(request)
        except Exception as error:  # noqa: BLE001 (`run` raises it)
            self._request_error = error
            self._stream.wake()

    async def _carry_out(self, request: pb.SubscribeFeedsRequest) -> None:
        """Add or remove a subscription. Remove an earlier one with the same id in either case."""
        subscription_id = getattr(request, request.WhichOneof("action") or "add").subscription_id
        try:
            validation.check(request)
        except InvalidRequest as error:
            self._remove(subscription_id)
            await self._queue_message(self._error_message(subscription_id, error))
            return
        self._remove(subscription_id)
        if request.WhichOneof("action") == "remove":
            removed = pb.SubscribeFeedsResponse(
                subscription_id=subscription_id, removed=pb.FeedSubscriptionRemoved()
            )
            await self._queue_message(removed.SerializeToString())
            return
        limit = self._max_subscriptions
        if len(self._subscriptions) >= limit:
            refusal = TooManySubscriptions(
                f"the stream has {limit} subscriptions, the most that it may have: "
                "remove one, or use another stream",
                limit,
            )
            await self._queue_message(self._error_message(subscription_id, refusal))
            return
        source = MultiplexedFeedEvents(
            self._engine,
            self._tokens,
            FeedQuery.of(request.add),
            pb.SubscribeFeedsResponse(subscription_id=subscription_id).SerializeToString(),
        )
        subscription = _Subscription(subscription_id, source)
        self._subscriptions[subscription_id] = subscription
        await self._add_slots.acquire()
        if not self._ending:
            self._start_task(self._begin(subscription, request.add))

    async def _begin(self, subscription: _Subscription, request: pb.AddFeedSubscription) -> None:
        """Begin a subscription, unless a request removes or replaces it meanwhile."""
        source = subscription.source
        try:
            try:
                if request.initial_page_size:
                    page = await source.first_page(request.initial_page_size)
                    message = source.started_message(pb.SUBSCRIPTION_START_NEW, page)
                elif request.resume_token:
                    # No answer yet: the log may not reach back to the token any more.
                    source.log_positions = source.read_resume_token(request.resume_token)
                    if self._is_current(subscription):
                        self._follow_log(subscription)
                    return
                else:
                    await source.begin("")
                    message = source.started_message(pb.SUBSCRIPTION_START_NEW)
            except Exception as error:  # noqa: BLE001 (the other subscriptions go on)
                if self._is_current(subscription):
                    self._remove(subscription.id)
                    await self._queue_message(self._error_message(subscription.id, error))
                return
            if not self._is_current(subscription):
                return
            await self._queue_message(message)
            if self._is_current(subscription):
                subscription.is_started = True
                self._follow_log(subscription)
        finally:
            self._add_slots.release()

    def _is_current(self, subscription: _Subscription) -> bool:
        """Return False if a request has removed or replaced the subscription."""
        return self._subscriptions.get(subscription.id) is subscription

    def _remove(self, subscription_id: str) -> None:
        """Remove the subscription with this id, if the stream has it."""
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is not None and subscription.log_cursor is not None:
            self._stream.leave(subscription.log_cursor)

    async def _queue_message(self, message: bytes) -> None:
        """Hand a message to the writing side."""
        await self._queued_messages.put(message)
        self._stream.wake()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _error_message(self, subscription_id: str, error: Exception) -> bytes:
        """Log an error, and return the message that answers a request or ends a subscription.

        The message leaves out an id that is longer than the contract allows.
        """
        self._call.log_failed_subscription(error)
        too_long = len(subscription_id.encode()) > SUBSCRIPTION_ID_BYTES
        return pb.SubscribeFeedsResponse(
            subscription_id="" if too_long else subscription_id, error=status_of(error)
        ).SerializeToString()
