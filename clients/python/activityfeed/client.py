"""A thin asyncio client: the generated stubs, with what every caller of them would otherwise write.

    async with FeedClient.connect("127.0.0.1:50051") as client:
        request = PublishActivityRequest(activity=Activity(actor="alice", verb="push"))
        await client.activities.PublishActivity(request)
        async for page in client.pages("bob"):
            ...

Calls raise ``grpc.aio.AioRpcError``; ``reason``, ``violations``, ``retry_after`` and
``fresh_token`` tell what the service says. Subscriptions survive what passes: lost connections,
servers that stop, streams that have lived long enough.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from activityfeed._resuming import (
    FIRST_BACKOFF,
    MAX_BACKOFF,
    MAX_SILENCE,
    OnBreak,
    Resuming,
    Told,
    fresh_token,
    of_activities,
    of_all,
    of_feed,
    reason,
    retry_after,
    violations,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.v1.activity_service_pb2 import BatchPublishActivitiesRequest
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from activityfeed.v1.subscription_service_pb2 import (
    SubscribeActivitiesResponse,
    SubscribeAllResponse,
    SubscribeFeedResponse,
)
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

__all__ = ["FeedClient", "fresh_token", "reason", "retry_after", "violations"]

#: Seconds that a unary call may take, retries included, unless it is given a `timeout` of its own.
DEFAULT_SECONDS = 10.0

#: gRPC itself repeats a call that found no server, or one that cannot answer now. A server that is
#: stopping may cancel a call that it has not begun, instead of refusing it. Not that too many
#: deliveries wait (FANOUT_OVERLOADED): whoever publishes should know, and publish less. Nor
#: subscriptions, which are resumed here.
RETRIES = {
    "methodConfig": [
        {
            "name": [
                {"service": "activityfeed.v1.SubscriptionService", "method": method}
                for method in ("SubscribeFeed", "SubscribeActivities", "SubscribeAll")
            ],
        },
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
    ]
}
#: Of every channel. It looks for a server that is away as often as subscriptions do, not every two
#: minutes.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(RETRIES)),
    ("grpc.initial_reconnect_backoff_ms", int(FIRST_BACKOFF * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(MAX_BACKOFF * 1000)),
]
#: Of a channel that must not share a connection with another one.
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class FeedClient:
    """A connection to the service. Make it with ``connect``; use it from one event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """For a channel of one's own, which then lacks the deadlines, request ids and retries.

        Nor can subscriptions that were silent leave its connection for another one.
        """
        self._channel = channel
        self._another: Callable[[], grpc.aio.Channel] | None = None
        self._others: set[grpc.aio.Channel] = set()
        self._closed = asyncio.Event()
        self.activities = ActivityServiceStub(channel)
        self.follows = FollowServiceStub(channel)
        self.feeds = FeedServiceStub(channel)
        self.subscriptions = SubscriptionServiceStub(channel)
        self.admin = AdminServiceStub(channel)

    @classmethod
    def connect(
        cls,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_SECONDS,
        request_ids: bool = True,
    ) -> Self:
        """A client for the server at ``target``, ``host:port``. Connects with the first call.

        ``timeout`` is the seconds that a unary call may take if it names no ``timeout`` itself;
        streams have none. With ``request_ids`` each mutation without a ``request_id`` is sent with
        a new one, so that gRPC's retries, which happen inside one call, never do a thing twice.
        """

        def channel(*more: tuple[str, Any]) -> grpc.aio.Channel:
            options = [*OPTIONS, *more]
            interceptors = [_Defaults(timeout, request_ids=request_ids)]
            if credentials is None:
                return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
            return grpc.aio.secure_channel(target, credentials, options, None, interceptors)

        client = cls(channel())
        client._another = lambda: channel(OWN_CONNECTION)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all calls and the connection. Subscriptions end without an error."""
        self._closed.set()
        for channel in (self._channel, *self._others):
            await channel.close()

    async def pages(
        self, user: str, *, viewer: str = "", page_size: int = 0
    ) -> AsyncGenerator[FeedPage, None]:
        """Walks a feed from its newest page to its end. Pages may be empty before the last one."""
        request = GetFeedRequest(user=user, viewer=viewer, page_size=page_size)
        while True:
            page = (await self.feeds.GetFeed(request)).page
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def subscribe(  # noqa: PLR0913 - most are seldom given
        self,
        user: str,
        resume_token: str = "",
        *,
        viewer: str = "",
        initial_page_size: int = 0,
        max_silence: float | None = MAX_SILENCE,
        on_break: OnBreak | None = None,
    ) -> AsyncGenerator[SubscribeFeedResponse, None]:
        """The messages of SubscribeFeed, each event once and in order, until the caller stops.

        Begins after the message that had ``resume_token``, or now if it is empty. Without a token
        the first message has the newest page, of at most ``initial_page_size`` items, if that is
        above 0; no later message has one. Of a heartbeat only the token is new.

        A stream that breaks is resumed with the token of the last message that was yielded: when
        the connection is lost, the server stops or restarts (DRAINING), the store does not answer,
        the stream has lived long enough (STREAM_EXPIRED) or was not read in time (STREAM_NOT_READ),
        and when it ends without an error. If it breaks before the first message, the same is asked
        again, the page too. Before each attempt it waits as long as the server says, and a random
        time of up to 0.2 seconds more, which doubles to up to 10 seconds until a message comes;
        after STREAM_EXPIRED and a reset it does not wait. It does so for as long as it takes.

        If the log no longer reaches back (RESUME_TOKEN_EXPIRED), a message comes that the server
        did not send: ``started`` with SUBSCRIPTION_START_RESET, and a token from which it then goes
        on. Events are missing: read the feed again when it is there. After any other break
        ``started`` comes again too, with SUBSCRIPTION_START_RESUMED: nothing is missing.

        ``max_silence``: seconds that may pass without a message, not even a heartbeat, while the
        caller waits for one; then the connection is taken for dead, and the next attempt makes one
        of its own. It must be longer than the server's time between heartbeats, of 15 seconds.
        None: it is waited for ever. Default: 60.

        ``on_break`` is called at each break that is survived, before it is waited: with the error,
        or with None if the stream was silent or ended without one. What it raises ends the
        iteration. Default: none.

        ``aclose`` and cancellation end the call; closing the client ends the iteration.

        Raises AioRpcError when asking again does not help, such as INVALID_ARGUMENT with
        RESUME_TOKEN_INVALID if the token is damaged or of another service, user, viewer or version,
        or with INVALID_FIELD if it was given together with an ``initial_page_size``.
        """
        return self._follow(
            of_feed(user, resume_token, viewer, initial_page_size, on_break), max_silence
        )

    def subscribe_activities(
        self,
        entity: str,
        resume_token: str = "",
        *,
        viewer: str = "",
        max_silence: float | None = MAX_SILENCE,
        on_break: OnBreak | None = None,
    ) -> AsyncGenerator[SubscribeActivitiesResponse, None]:
        """The messages of SubscribeActivities: what is published to ``entity``. As ``subscribe``.

        But there is no reset: if the log no longer reaches back, it raises OUT_OF_RANGE with
        RESUME_TOKEN_EXPIRED, and ``fresh_token`` tells where to go on.
        """
        return self._follow(of_activities(entity, resume_token, viewer, on_break), max_silence)

    def subscribe_all(
        self,
        resume_token: str = "",
        *,
        max_silence: float | None = MAX_SILENCE,
        on_break: OnBreak | None = None,
    ) -> AsyncGenerator[SubscribeAllResponse, None]:
        """The messages of SubscribeAll: what anybody publishes. As ``subscribe_activities``."""
        return self._follow(of_all(resume_token, on_break), max_silence)

    async def _follow(
        self, resuming: Resuming[Any, Told], max_silence: float | None
    ) -> AsyncGenerator[Told, None]:
        silent = False
        while not self._closed.is_set():
            error: grpc.aio.AioRpcError | None = None
            async with self._connected(alone=silent) as stub:
                silent = False
                call = getattr(stub, resuming.method)(resuming.request)
                try:
                    while (message := await _read(call, max_silence)) is not grpc.aio.EOF:
                        resuming.received(message)
                        yield message
                except TimeoutError:
                    silent = True
                except grpc.aio.AioRpcError as broke:
                    error = broke
                except asyncio.CancelledError:
                    if self._closed.is_set() and not _cancelled():
                        return  # gRPC says so of calls whose channel was closed
                    raise
                finally:
                    call.cancel()
            reset, seconds = resuming.broken(error)
            if reset is not None:
                yield reset
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()

    @asynccontextmanager
    async def _connected(self, *, alone: bool) -> AsyncIterator[Any]:
        """A stub to subscribe with; ``alone``: on a connection of its own, if one can be made."""
        if not alone or self._another is None:
            yield self.subscriptions
            return
        channel = self._another()
        self._others.add(channel)
        try:
            yield SubscriptionServiceStub(channel)
        finally:
            self._others.discard(channel)
            await channel.close()


async def _read(call: Any, max_silence: float | None) -> Any:
    """The next message, or EOF. Raises TimeoutError."""
    async with asyncio.timeout(max_silence):
        return await call.read()


def _cancelled() -> bool:
    """Whether somebody has cancelled this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Defaults(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives calls a deadline and mutations request ids, where the caller has not."""

    def __init__(self, timeout: float, *, request_ids: bool) -> None:
        self._timeout = timeout
        self._request_ids = request_ids

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request],
            Awaitable[grpc.aio.UnaryUnaryCall[_Request, _Response]],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> _Response | grpc.aio.UnaryUnaryCall[_Request, _Response]:
        details = client_call_details
        if details.timeout is None:
            details = grpc.aio.ClientCallDetails(
                method=details.method,
                timeout=self._timeout,
                metadata=details.metadata,
                credentials=details.credentials,
                wait_for_ready=details.wait_for_ready,
            )
        return await continuation(details, _identified(request) if self._request_ids else request)


def _identified(request: _Request) -> _Request:
    """The request, or a copy with request ids where they lack.

    A copy, because the caller may send the same message again and mean a second call by it.
    """
    copy: Any = request
    if isinstance(request, BatchPublishActivitiesRequest | BatchFollowRequest):
        copy = type(request)()
        copy.CopyFrom(request)
        for entry in copy.requests:
            entry.request_id = entry.request_id or uuid.uuid4().hex
    elif getattr(request, "request_id", None) == "":
        copy = type(request)()
        copy.CopyFrom(request)
        copy.request_id = uuid.uuid4().hex
    identified: _Request = copy
    return identified
