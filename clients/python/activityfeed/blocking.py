"""The client for programs without an event loop: as ``FeedClient``, but its calls block.

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

from activityfeed._resuming import (
    MAX_SILENCE,
    OnBreak,
    Resuming,
    Told,
    of_activities,
    of_all,
    of_feed,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.client import DEFAULT_SECONDS, OPTIONS, OWN_CONNECTION, _identified
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
        """For a channel of one's own, which then lacks the deadlines, request ids and retries.

        Nor can subscriptions that were silent leave its connection for another one.
        """
        self._channel = channel
        self._another: Callable[[], grpc.Channel] | None = None
        self._others: set[grpc.Channel] = set()
        self._closed = threading.Event()
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

        def channel(*more: tuple[str, Any]) -> grpc.Channel:
            options = [*OPTIONS, *more]
            if credentials is None:
                plain = grpc.insecure_channel(target, options)
            else:
                plain = grpc.secure_channel(target, credentials, options)
            return grpc.intercept_channel(plain, _Defaults(timeout, request_ids=request_ids))

        client = cls(channel())
        client._another = lambda: channel(OWN_CONNECTION)
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
        """Ends all calls, of other threads too, and the connection.

        Subscriptions end without an error.
        """
        self._closed.set()
        for channel in (self._channel, *self._others):
            channel.close()

    def pages(
        self, user: str, *, viewer: str = "", page_size: int = 0
    ) -> Generator[FeedPage, None, None]:
        """Walks a feed from its newest page to its end. Pages may be empty before the last one."""
        request = GetFeedRequest(user=user, viewer=viewer, page_size=page_size)
        while True:
            page = self.feeds.GetFeed(request).page
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
    ) -> Generator[SubscribeFeedResponse, None, None]:
        """The messages of SubscribeFeed, resumed whenever the stream breaks.

        All is as ``FeedClient.subscribe`` says; it raises RpcError. ``close`` of the generator, and
        an exception while it waits, end the call; closing the client, from any thread, ends the
        iteration.
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
    ) -> Generator[SubscribeActivitiesResponse, None, None]:
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
    ) -> Generator[SubscribeAllResponse, None, None]:
        """The messages of SubscribeAll: what anybody publishes. As ``subscribe_activities``."""
        return self._follow(of_all(resume_token, on_break), max_silence)

    def _follow(
        self, resuming: Resuming[Any, Told], max_silence: float | None
    ) -> Generator[Told, None, None]:
        silent = False
        while not self._closed.is_set():
            error: grpc.RpcError | None = None
            with self._connected(alone=silent) as stub:
                try:
                    call = getattr(stub, resuming.method)(resuming.request)
                except ValueError:
                    if self._closed.is_set():
                        return
                    raise
                messages = _Listened(call, max_silence)
                try:
                    for message in messages:
                        resuming.received(message)
                        yield message
                except grpc.RpcError as broke:
                    error = broke
                finally:
                    messages.close()
            if self._closed.is_set():
                return
            silent = messages.silent
            reset, seconds = resuming.broken(None if silent else error)
            if reset is not None:
                yield reset
            self._closed.wait(seconds)

    @contextmanager
    def _connected(self, *, alone: bool) -> Iterator[Any]:
        """A stub to subscribe with; ``alone``: on a connection of its own, if one can be made."""
        if not alone or self._another is None:
            yield self.subscriptions
            return
        channel = self._another()
        self._others.add(channel)
        if self._closed.is_set():  # just now, by another thread
            channel.close()
        try:
            yield SubscriptionServiceStub(channel)
        finally:
            self._others.discard(channel)
            channel.close()


class _Listened(Iterator[Any]):
    """The messages of a call, which a thread cancels if one is too long in coming."""

    def __init__(self, call: Any, max_silence: float | None) -> None:
        self.silent = False
        """Whether it has been cancelled for that."""
        self._call = call
        self._max_silence = max_silence
        self._asked: float | None = None
        """Since when a message is waited for."""
        self._over = threading.Event()
        if max_silence is not None:
            threading.Thread(target=self._watch, args=(max_silence,), daemon=True).start()

    def __next__(self) -> Any:
        self._asked = time.monotonic()
        try:
            return next(self._call)
        finally:
            self._asked = None

    def close(self) -> None:
        self._over.set()
        self._call.cancel()

    def _watch(self, max_silence: float) -> None:
        left = max_silence
        while not self._over.wait(left):
            asked = self._asked
            left = max_silence if asked is None else asked + max_silence - time.monotonic()
            if left <= 0:
                self.silent = True
                self._call.cancel()
                return


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    """How a call is made."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Defaults(grpc.UnaryUnaryClientInterceptor):
    """Gives calls a deadline and mutations request ids, where the caller has not."""

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
            given = {one.name: getattr(details, one.name) for one in fields(_Details)}
            details = _Details(**given | {"timeout": self._timeout})
        return continuation(details, _identified(request) if self._request_ids else request)
