"""A thin asyncio client: the generated stubs, and code that every caller of them needs.

    async with FeedClient.connect("127.0.0.1:50051") as client:
        request = PublishActivityRequest(activity=Activity(actor="alice", verb="push"))
        await client.activities.PublishActivity(request)
        async for page in client.pages("bob"):
            ...

Calls raise ``grpc.aio.AioRpcError``; ``reason``, ``violations``, ``retry_after`` and
``fresh_token`` read the details of the error. Subscriptions survive lost connections, servers that
stop, and streams that reach the end of their lifetime.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from activityfeed._errors import fresh_token, reason, retry_after, violations
from activityfeed._request_ids import with_request_ids
from activityfeed._resuming import (
    FIRST_BACKOFF,
    MAX_BACKOFF,
    MAX_SILENCE,
    OnBreak,
    ResumableSubscription,
    SubscribeResponse,
    activities_subscription,
    all_subscription,
    feed_subscription,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from activityfeed.v1.subscription_service_pb2 import (
    SubscribeActivitiesResponse,
    SubscribeAllResponse,
    SubscribeFeedResponse,
)
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

__all__ = ["FeedClient", "fresh_token", "reason", "retry_after", "violations"]

#: Seconds that a unary call may take, retries included, if the call names no `timeout`.
DEFAULT_SECONDS = 10.0

#: Retries by gRPC itself, of calls that met no server or a server that cannot answer now. A
#: stopping server may cancel a call that it has not begun, instead of refusing it. gRPC does not
#: repeat a publish that FANOUT_OVERLOADED refused: the publisher should know, and publish less. Nor
#: does it repeat subscriptions, which this client resumes.
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
#: Options of every channel. A channel looks for a missing server as often as subscriptions do;
#: gRPC's default is up to two minutes.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(RETRIES)),
    ("grpc.initial_reconnect_backoff_ms", int(FIRST_BACKOFF * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(MAX_BACKOFF * 1000)),
]
#: Option of a channel that must not share the connection of another channel.
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class FeedClient:
    """A connection to the service. Make it with ``connect``; use it from one event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Use a channel of the caller's own, without this client's deadlines, request ids, retries.

        Subscriptions on such a channel cannot replace a silent connection by a new connection.
        """
        self._channel = channel
        self._new_channel: Callable[[], grpc.aio.Channel] | None = None
        self._extra_channels: set[grpc.aio.Channel] = set()
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
        """Return a client for the server at ``target``, ``host:port``. The first call connects.

        ``credentials``: those of a connection with TLS, for example
        ``grpc.ssl_channel_credentials()``. None: a connection without TLS.

        ``timeout`` is the seconds that a unary call may take if the call names no ``timeout``;
        streams have none. With ``request_ids``, each mutation without a ``request_id`` gets a new
        one, so that gRPC's retries within one call change nothing.
        """

        def new_channel(*extra_options: tuple[str, Any]) -> grpc.aio.Channel:
            options = [*OPTIONS, *extra_options]
            interceptors = [_Defaults(timeout, request_ids=request_ids)]
            if credentials is None:
                return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
            return grpc.aio.secure_channel(target, credentials, options, None, interceptors)

        client = cls(new_channel())
        client._new_channel = lambda: new_channel(OWN_CONNECTION)
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
        """End all calls and the connection. Subscriptions end without an error."""
        self._closed.set()
        for channel in (self._channel, *self._extra_channels):
            await channel.close()

    async def pages(
        self, user: str, *, viewer: str = "", page_size: int = 0
    ) -> AsyncGenerator[FeedPage, None]:
        """Yield a feed's pages from the newest to the last. Pages before the last may be empty."""
        request = GetFeedRequest(user=user, viewer=viewer, page_size=page_size)
        while True:
            page = (await self.feeds.GetFeed(request)).page
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def subscribe(  # noqa: PLR0913 - callers seldom give most of them
        self,
        user: str,
        resume_token: str = "",
        *,
        viewer: str = "",
        initial_page_size: int = 0,
        max_silence: float | None = MAX_SILENCE,
        on_break: OnBreak | None = None,
    ) -> AsyncGenerator[SubscribeFeedResponse, None]:
        """Yield the messages of SubscribeFeed, each event once and in order, for ever.

        The subscription begins after the message that had ``resume_token``, or now if the token is
        empty. Without a token, and with an ``initial_page_size`` above 0, the first message has the
        newest page, of at most so many items; no later message has a page. A heartbeat brings a new
        token and nothing else.

        A broken stream is resumed with the token of the last message that was yielded. A stream
        breaks when the connection is lost, the server stops or restarts (DRAINING), the store does
        not answer, the stream reaches the end of its lifetime (STREAM_EXPIRED) or was not read in
        time (STREAM_NOT_READ), and when it ends without an error. If the stream breaks before its
        first message, the next attempt repeats the first request, page included. Attempts go on
        without limit. Before each attempt the client waits as long as the server demands, and a
        random time of up to 0.2 seconds more. The random time doubles, up to 10 seconds, until a
        message comes. After STREAM_EXPIRED and after a reset the client does not wait.

        If the log no longer reaches back to the token (RESUME_TOKEN_EXPIRED), the client yields a
        message that the server did not send: ``started`` with SUBSCRIPTION_START_RESET, and a token
        from which the subscription then goes on. Events are missing: read the feed again after this
        message. After any other break the server sends ``started`` with SUBSCRIPTION_START_RESUMED:
        no event is missing.

        ``max_silence``: seconds that the caller may wait for a message, heartbeats included. Then
        the connection counts as dead, and the next attempt makes a connection of its own.
        ``max_silence`` must be longer than the server's time between heartbeats, 15 seconds. None:
        no limit. Defaults to 60.

        ``on_break``: function that is called at each break that is survived, before the wait, with
        the error, or with None if the stream was silent or ended without an error. An exception of
        the function ends the iteration. Defaults to none.

        ``aclose`` and cancellation end the call. Closing the client ends the iteration.

        Raise AioRpcError when another attempt does not help: for example INVALID_ARGUMENT with
        RESUME_TOKEN_INVALID if the token is damaged or belongs to another service, user, viewer or
        version, or with INVALID_FIELD if both a token and an ``initial_page_size`` were given.
        """
        return self._messages(
            feed_subscription(user, resume_token, viewer, initial_page_size, on_break), max_silence
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
        """Yield the messages of SubscribeActivities: activities in the outbox of ``entity``.

        All is as for ``subscribe``, but this subscription has no reset. If the log no longer
        reaches back to the token, raise OUT_OF_RANGE with RESUME_TOKEN_EXPIRED; ``fresh_token``
        returns the token to go on from.
        """
        return self._messages(
            activities_subscription(entity, resume_token, viewer, on_break), max_silence
        )

    def subscribe_all(
        self,
        resume_token: str = "",
        *,
        max_silence: float | None = MAX_SILENCE,
        on_break: OnBreak | None = None,
    ) -> AsyncGenerator[SubscribeAllResponse, None]:
        """Yield the messages of SubscribeAll: all activities.

        All is as for ``subscribe_activities``.
        """
        return self._messages(all_subscription(resume_token, on_break), max_silence)

    async def _messages(
        self,
        subscription: ResumableSubscription[Any, SubscribeResponse],
        max_silence: float | None,
    ) -> AsyncGenerator[SubscribeResponse, None]:
        silent = False
        while not self._closed.is_set():
            error: grpc.aio.AioRpcError | None = None
            async with self._stub(own_connection=silent) as stub:
                silent = False
                call = getattr(stub, subscription.method)(subscription.request)
                try:
                    while (message := await _read(call, max_silence)) is not grpc.aio.EOF:
                        subscription.note_message(message)
                        yield message
                except TimeoutError:
                    silent = True
                except grpc.aio.AioRpcError as call_error:
                    error = call_error
                except asyncio.CancelledError:
                    if self._closed.is_set() and not _is_cancelled():
                        return  # gRPC raises this in calls whose channel was closed
                    raise
                finally:
                    call.cancel()
            reset, seconds = subscription.note_break(error)
            if reset is not None:
                yield reset
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()

    @asynccontextmanager
    async def _stub(self, *, own_connection: bool) -> AsyncIterator[Any]:
        """Yield a stub to subscribe with, on a connection of its own if asked for and possible."""
        if not own_connection or self._new_channel is None:
            yield self.subscriptions
            return
        channel = self._new_channel()
        self._extra_channels.add(channel)
        try:
            yield SubscriptionServiceStub(channel)
        finally:
            self._extra_channels.discard(channel)
            await channel.close()


async def _read(call: Any, max_silence: float | None) -> Any:
    """Return the next message, or EOF. Raise TimeoutError after ``max_silence`` seconds."""
    async with asyncio.timeout(max_silence):
        return await call.read()


def _is_cancelled() -> bool:
    """Return whether the current task has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Defaults(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that adds deadlines to calls and request ids to mutations without them."""

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
        return await continuation(
            details, with_request_ids(request) if self._request_ids else request
        )
