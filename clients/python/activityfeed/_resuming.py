"""What the asyncio and the blocking client share: what errors say, and how subscriptions go on."""

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_RESET,
    FeedSubscriptionStarted,
    SubscribeActivitiesRequest,
    SubscribeActivitiesResponse,
    SubscribeAllRequest,
    SubscribeAllResponse,
    SubscribeFeedRequest,
    SubscribeFeedResponse,
)

#: Seconds without a message after which a connection is taken for dead: four times the 15 seconds
#: between the heartbeats of a server.
MAX_SILENCE = 60.0
#: Seconds of backoff: at most the first after the first break, twice as much after each that
#: follows without a message in between, at most the second.
FIRST_BACKOFF, MAX_BACKOFF = 0.2, 10.0
#: Breaks after which the backoff grows no more, well beyond MAX_BACKOFF.
MAX_DOUBLINGS = 16

#: Is told of each break: the error, or None if the stream ended without one or was silent.
OnBreak = Callable[[grpc.RpcError | None], None]

Asked = TypeVar("Asked", SubscribeFeedRequest, SubscribeActivitiesRequest, SubscribeAllRequest)
Told = TypeVar("Told", SubscribeFeedResponse, SubscribeActivitiesResponse, SubscribeAllResponse)
_Detail = TypeVar("_Detail", bound=Message)


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


def fresh_token(error: grpc.RpcError | Status) -> str | None:
    """Where a log goes on that no longer reaches back to a resume token: the token for there.

    What happened in between is missing: read what it was about again, and subscribe with this one.
    None if the error is not RESUME_TOKEN_EXPIRED.
    """
    for info in _details(error, ErrorInfo):
        if info.reason == "RESUME_TOKEN_EXPIRED":
            return info.metadata.get("resume_token")
    return None


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


class Resuming(Generic[Asked, Told]):
    """A subscription: what to ask for next, and what becomes of it when its stream breaks."""

    def __init__(
        self,
        method: str,
        request: Asked,
        on_break: OnBreak | None,
        reset: Callable[[str], Told] | None = None,
    ) -> None:
        """``reset`` makes the message that events are missing, with a fresh token."""
        self.method = method
        self.request: Asked = request
        self._on_break = on_break
        self._reset: Callable[[str], Told] | None = reset
        self._breaks = 0
        """Since the last message."""

    def received(self, message: Told) -> None:
        """A message is there, and is yielded."""
        self._go_on_from(message.resume_token)
        self._breaks = 0

    def broken(self, error: grpc.RpcError | None) -> tuple[Told | None, float]:
        """The stream broke: what to yield, if anything, and in how many seconds to ask again.

        ``error`` is None if the stream ended without one or was silent. It is raised if asking
        again does not help.
        """
        token = fresh_token(error) if error is not None else None
        message = self._reset(token) if token and self._reset is not None else None
        if error is not None and message is None and not _passes(error):
            raise error
        if self._on_break is not None:
            self._on_break(error)
        if message is not None:
            self._go_on_from(message.resume_token)
        return message, self._pause(error, at_once=message is not None)

    def _pause(self, error: grpc.RpcError | None, *, at_once: bool) -> float:
        breaks, self._breaks = self._breaks, self._breaks + 1
        if error is not None:
            at_once = at_once or reason(error) == "STREAM_EXPIRED"
        if at_once and not breaks:
            return 0.0
        longest = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(breaks, MAX_DOUBLINGS))
        told = retry_after(error) if error is not None else None
        return (told or 0.0) + random.uniform(0, longest)

    def _go_on_from(self, token: str) -> None:
        self.request.resume_token = token
        if isinstance(self.request, SubscribeFeedRequest):
            self.request.initial_page_size = 0  # with a token there is no page


def _passes(error: grpc.RpcError) -> bool:
    """Whether it helps to ask again."""
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return True
        case grpc.StatusCode.ABORTED:
            return reason(error) == "STREAM_NOT_READ"
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return not reason(error)  # the connection's, not the service's
        case _:
            return False


def of_feed(
    user: str, resume_token: str, viewer: str, initial_page_size: int, on_break: OnBreak | None
) -> Resuming[SubscribeFeedRequest, SubscribeFeedResponse]:
    """A subscription to a feed."""
    request = SubscribeFeedRequest(
        user=user, viewer=viewer, resume_token=resume_token, initial_page_size=initial_page_size
    )

    def reset(token: str) -> SubscribeFeedResponse:
        started = FeedSubscriptionStarted(start=SUBSCRIPTION_START_RESET)
        return SubscribeFeedResponse(resume_token=token, started=started)

    return Resuming("SubscribeFeed", request, on_break, reset)


def of_activities(
    entity: str, resume_token: str, viewer: str, on_break: OnBreak | None
) -> Resuming[SubscribeActivitiesRequest, SubscribeActivitiesResponse]:
    """A subscription to an outbox."""
    request = SubscribeActivitiesRequest(entity=entity, viewer=viewer, resume_token=resume_token)
    return Resuming("SubscribeActivities", request, on_break)


def of_all(
    resume_token: str, on_break: OnBreak | None
) -> Resuming[SubscribeAllRequest, SubscribeAllResponse]:
    """A subscription to all activities."""
    return Resuming("SubscribeAll", SubscribeAllRequest(resume_token=resume_token), on_break)
