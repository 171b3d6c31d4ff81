"""The client for programs without an event loop: like ``FeedClient``, but its calls block.

    with BlockingFeedClient.connect("127.0.0.1:50051") as client:
        request = PublishActivityRequest(activity=Activity(actor="alice", verb="push"))
        client.activities.PublishActivity(request)
        for message in client.subscribe("bob"):
            ...

Calls raise ``grpc.RpcError``.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from activityfeed._request_ids import with_request_ids
from activityfeed._resuming import (
    MAX_SILENCE,
    OnBreak,
    ResumableSubscription,
    SubscribeResponse,
    activities_subscription,
    all_subscription,
    feed_subscription,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.client import DEFAULT_SECONDS, OPTIONS, OWN_CONNECTION
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

_Request = TypeVar("_Request")


class BlockingFeedClient:
    """A connection to the service. Make it with ``connect``; threads may share it."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Use a channel of the caller's own, with the limits of ``FeedClient``."""
        self.activities = ActivityServiceStub(channel)
        self.follows = FollowServiceStub(channel)
        self.feeds = FeedServiceStub(channel)
        self.subscriptions = SubscriptionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self._channel = channel
        self._new_channel: Callable[[], grpc.Channel] | None = None
        self._extra_channels: set[grpc.Channel] = set()
        self._closed = threading.Event()

    @classmethod
    def connect(
        cls,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_SECONDS,
        request_ids: bool = True,
    ) -> Self:
        """Return a blocking client for the server at ``target``, ``host:port``.

        The first call connects. The options are those of ``FeedClient.connect``.
        """

        def new_channel(*extra_options: tuple[str, Any]) -> grpc.Channel:
            options = [*OPTIONS, *extra_options]
            if credentials is None:
                channel = grpc.insecure_channel(target, options)
            else:
                channel = grpc.secure_channel(target, credentials, options)
            return grpc.intercept_channel(channel, _Defaults(timeout, request_ids=request_ids))

        client = cls(new_channel())
        client._new_channel = lambda: new_channel(OWN_CONNECTION)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls, those of other threads too, and the connection.

        Subscriptions end without an error.
        """
        self._closed.set()
        for channel in (self._channel, *self._extra_channels):
            channel.close()

    def pages(
        self, user: str, *, viewer: str = "", page_size: int = 0
    ) -> Generator[FeedPage, None, None]:
        """Yield a feed's pages from the newest to the last. Pages before the last may be empty."""
        request = GetFeedRequest(user=user, viewer=viewer, page_size=page_size)
        while True:
            page = self.feeds.GetFeed(request).page
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
    ) -> Generator[SubscribeFeedResponse, None, None]:
        """Yield the messages of SubscribeFeed, and resume the stream whenever it breaks.

        All is as for ``FeedClient.subscribe``, but errors are RpcError. Closing the generator ends
        the call, and so does an exception while the caller waits. Closing the client, from any
        thread, ends the iteration.
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
    ) -> Generator[SubscribeActivitiesResponse, None, None]:
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
    ) -> Generator[SubscribeAllResponse, None, None]:
        """Yield the messages of SubscribeAll: all activities.

        All is as for ``subscribe_activities``.
        """
        return self._messages(all_subscription(resume_token, on_break), max_silence)

    def _messages(
        self,
        subscription: ResumableSubscription[Any, SubscribeResponse],
        max_silence: float | None,
    ) -> Generator[SubscribeResponse, None, None]:
        silent = False
        while not self._closed.is_set():
            error: grpc.RpcError | None = None
            with self._stub(own_connection=silent) as stub:
                try:
                    call = getattr(stub, subscription.method)(subscription.request)
                except ValueError:
                    if self._closed.is_set():
                        return
                    raise
                messages = _WatchedMessages(call, max_silence)
                try:
                    for message in messages:
                        subscription.note_message(message)
                        yield message
                except grpc.RpcError as call_error:
                    error = call_error
                finally:
                    messages.close()
            if self._closed.is_set():
                return
            silent = messages.silent
            reset, seconds = subscription.note_break(None if silent else error)
            if reset is not None:
                yield reset
            self._closed.wait(seconds)

    @contextmanager
    def _stub(self, *, own_connection: bool) -> Iterator[Any]:
        """Yield a stub to subscribe with, on a connection of its own if asked for and possible."""
        if not own_connection or self._new_channel is None:
            yield self.subscriptions
            return
        channel = self._new_channel()
        self._extra_channels.add(channel)
        if self._closed.is_set():  # by another thread, which may have missed this channel
            channel.close()
        try:
            yield SubscriptionServiceStub(channel)
        finally:
            self._extra_channels.discard(channel)
            channel.close()


class _WatchedMessages(Iterator[Any]):
    """The messages of a call, which a thread cancels if a message takes too long to come."""

    def __init__(self, call: Any, max_silence: float | None) -> None:
        self.silent = False
        """True if the thread has cancelled the call."""
        self._call = call
        self._max_silence = max_silence
        self._waiting_since: float | None = None
        """Monotonic time at which the caller began to wait; None while the caller does not wait."""
        self._ended = threading.Event()
        if max_silence is not None:
            threading.Thread(target=self._watch, args=(max_silence,), daemon=True).start()

    def __next__(self) -> Any:
        self._waiting_since = time.monotonic()
        try:
            return next(self._call)
        finally:
            self._waiting_since = None

    def close(self) -> None:
        """End the call and the thread."""
        self._ended.set()
        self._call.cancel()

    def _watch(self, max_silence: float) -> None:
        remaining = max_silence
        while not self._ended.wait(remaining):
            since = self._waiting_since
            remaining = max_silence if since is None else since + max_silence - time.monotonic()
            if remaining <= 0:
                self.silent = True
                self._call.cancel()
                return


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    """The parameters of a call."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Defaults(grpc.UnaryUnaryClientInterceptor):
    """An interceptor that adds deadlines to calls and request ids to mutations without them."""

    def __init__(self, timeout: float, *, request_ids: bool) -> None:
        self._timeout = timeout
        self._request_ids = request_ids

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], Any],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> Any:
        details = client_call_details
        if details.timeout is None:
            parameters = {
                parameter.name: getattr(details, parameter.name) for parameter in fields(_Details)
            }
            details = _Details(**parameters | {"timeout": self._timeout})
        return continuation(details, with_request_ids(request) if self._request_ids else request)
