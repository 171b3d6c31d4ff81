"""Resumable subscriptions, which the asyncio and the blocking client share."""

import random
from collections.abc import Callable
from typing import Generic, TypeVar

import grpc

from activityfeed._errors import fresh_token, reason, retry_after
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

#: Seconds without a message after which a connection counts as dead: four times the 15 seconds
#: between the heartbeats of a server.
MAX_SILENCE = 60.0
#: Seconds of backoff at most: after the first break, and after any number of breaks. The limit
#: doubles with each break that follows without a message in between.
FIRST_BACKOFF, MAX_BACKOFF = 0.2, 10.0
#: Breaks after which the backoff grows no more, well beyond MAX_BACKOFF.
MAX_DOUBLINGS = 16

#: Function that is called at each break with the error, or with None if the stream was silent or
#: ended without an error.
OnBreak = Callable[[grpc.RpcError | None], None]

SubscribeRequest = TypeVar(
    "SubscribeRequest", SubscribeFeedRequest, SubscribeActivitiesRequest, SubscribeAllRequest
)
SubscribeResponse = TypeVar(
    "SubscribeResponse", SubscribeFeedResponse, SubscribeActivitiesResponse, SubscribeAllResponse
)


class ResumableSubscription(Generic[SubscribeRequest, SubscribeResponse]):
    """The state of a subscription: its next request, and how to go on when its stream breaks."""

    def __init__(
        self,
        method: str,
        request: SubscribeRequest,
        on_break: OnBreak | None,
        make_reset: Callable[[str], SubscribeResponse] | None = None,
    ) -> None:
        """Begin with ``request`` to the RPC ``method``.

        ``make_reset`` returns the message which says that events are missing, with a fresh token.
        """
        self.method = method
        self.request: SubscribeRequest = request
        self._on_break = on_break
        self._make_reset: Callable[[str], SubscribeResponse] | None = make_reset
        self._breaks = 0
        """Number of breaks since the last message."""

    def note_message(self, message: SubscribeResponse) -> None:
        """Take note of a message that is about to be yielded."""
        self._resume_from(message.resume_token)
        self._breaks = 0

    def note_break(self, error: grpc.RpcError | None) -> tuple[SubscribeResponse | None, float]:
        """Return a message to yield, if any, and the seconds to wait before the next attempt.

        ``error`` is None if the stream was silent or ended without an error. Raise ``error`` if
        another attempt does not help.
        """
        token = fresh_token(error) if error is not None else None
        reset = self._make_reset(token) if token and self._make_reset is not None else None
        if error is not None and reset is None and not _is_transient(error):
            raise error
        if self._on_break is not None:
            self._on_break(error)
        if reset is not None:
            self._resume_from(reset.resume_token)
        return reset, self._pause(error, at_once=reset is not None)

    def _pause(self, error: grpc.RpcError | None, *, at_once: bool) -> float:
        breaks, self._breaks = self._breaks, self._breaks + 1
        if error is not None:
            at_once = at_once or reason(error) == "STREAM_EXPIRED"
        if at_once and not breaks:
            return 0.0
        max_backoff = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(breaks, MAX_DOUBLINGS))
        requested_pause = retry_after(error) if error is not None else None
        return (requested_pause or 0.0) + random.uniform(0, max_backoff)

    def _resume_from(self, token: str) -> None:
        self.request.resume_token = token
        if isinstance(self.request, SubscribeFeedRequest):
            self.request.initial_page_size = 0  # the service refuses a page with a token


def _is_transient(error: grpc.RpcError) -> bool:
    """Return whether another attempt may succeed."""
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return True
        case grpc.StatusCode.ABORTED:
            return reason(error) == "STREAM_NOT_READ"
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return not reason(error)  # an error of the connection, not of the service
        case _:
            return False


def feed_subscription(
    user: str, resume_token: str, viewer: str, initial_page_size: int, on_break: OnBreak | None
) -> ResumableSubscription[SubscribeFeedRequest, SubscribeFeedResponse]:
    """Return a subscription to a feed."""
    request = SubscribeFeedRequest(
        user=user, viewer=viewer, resume_token=resume_token, initial_page_size=initial_page_size
    )

    def make_reset(token: str) -> SubscribeFeedResponse:
        started = FeedSubscriptionStarted(start=SUBSCRIPTION_START_RESET)
        return SubscribeFeedResponse(resume_token=token, started=started)

    return ResumableSubscription("SubscribeFeed", request, on_break, make_reset)


def activities_subscription(
    entity: str, resume_token: str, viewer: str, on_break: OnBreak | None
) -> ResumableSubscription[SubscribeActivitiesRequest, SubscribeActivitiesResponse]:
    """Return a subscription to an outbox."""
    request = SubscribeActivitiesRequest(entity=entity, viewer=viewer, resume_token=resume_token)
    return ResumableSubscription("SubscribeActivities", request, on_break)


def all_subscription(
    resume_token: str, on_break: OnBreak | None
) -> ResumableSubscription[SubscribeAllRequest, SubscribeAllResponse]:
    """Return a subscription to all activities."""
    request = SubscribeAllRequest(resume_token=resume_token)
    return ResumableSubscription("SubscribeAll", request, on_break)
