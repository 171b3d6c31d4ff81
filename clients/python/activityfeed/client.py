"""A thin asyncio client: the generated stubs, with what every caller of them would otherwise write.

    async with FeedClient.connect("127.0.0.1:50051") as client:
        request = PublishActivityRequest(activity=Activity(actor="alice", verb="push"))
        await client.activities.PublishActivity(request)
        async for page in client.pages("bob"):
            ...

Calls raise ``grpc.aio.AioRpcError``; ``reason``, ``violations`` and ``retry_after`` tell what the
service says.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from activityfeed.v1.activity_service_pb2 import BatchPublishActivitiesRequest
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest, SubscribeFeedResponse
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

#: Seconds that a unary call may take, retries included, unless it is given a `timeout` of its own.
DEFAULT_SECONDS = 10.0
#: Bytes that an answer may have. That to a batch of publishes holds the activities again, with
#: their ids, and may so exceed gRPC's default, 4 MiB, which a server takes for a request.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

#: gRPC itself repeats a call that found no server, or one that cannot answer now. A server that is
#: stopping may cancel a call that it has not begun, instead of refusing it. Not that too many
#: deliveries wait (FANOUT_OVERLOADED): whoever publishes should know, and publish less.
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Detail = TypeVar("_Detail", bound=Message)


class FeedClient:
    """A connection to the service. Make it with ``connect``; use it from one event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """For a channel of one's own, which then lacks the deadlines, request ids and retries."""
        self._channel = channel
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
        options = [
            ("grpc.service_config", json.dumps(RETRIES)),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ]
        interceptors = [_Defaults(timeout, request_ids=request_ids)]
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options, interceptors=interceptors)
        else:
            channel = grpc.aio.secure_channel(target, credentials, options, None, interceptors)
        return cls(channel)

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
        """Ends all calls and the connection."""
        await self._channel.close()

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

    async def subscribe(
        self, user: str, resume_token: str = "", *, viewer: str = ""
    ) -> AsyncGenerator[SubscribeFeedResponse, None]:
        """The messages of SubscribeFeed, until the stream ends or fails. It does not reconnect."""
        call = self.subscriptions.SubscribeFeed(
            SubscribeFeedRequest(user=user, viewer=viewer, resume_token=resume_token)
        )
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()


def reason(error: grpc.RpcError | Status) -> str:
    """Why a call, or an entry of a batch, failed: a name of ErrorReason without its prefix.

    Such as ``ACTIVITY_NOT_FOUND``. Empty if the error does not come from the service: when there is
    no connection, for example.
    """
    return next((info.reason for info in _details(error, ErrorInfo)), "")


def violations(error: grpc.RpcError | Status) -> list[BadRequest.FieldViolation]:
    """The bad fields of a request: ``field`` is the path, ``description`` the broken rule."""
    return [v for bad in _details(error, BadRequest) for v in bad.field_violations]


def retry_after(error: grpc.RpcError | Status) -> float | None:
    """In how many seconds the service would be asked again; None if it does not say."""
    found = _details(error, RetryInfo)
    return found[0].retry_delay.ToNanoseconds() / 1e9 if found else None


def _details(error: grpc.RpcError | Status, kind: type[_Detail]) -> list[_Detail]:
    if not isinstance(error, Status):
        metadata: Any = getattr(error, "trailing_metadata", tuple)() or ()
        raw = next((value for key, value in metadata if key == "grpc-status-details-bin"), b"")
        error = Status.FromString(raw)
    found = []
    for packed in error.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


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
