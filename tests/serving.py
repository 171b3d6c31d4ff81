"""A real server in the test's own process, on the test's store, and shorthands for its calls.

The fixture `serve(limits=..., **config)` starts a server, as often as a test calls it. The fixture
`service` is a server with the default configuration.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFeedStatsRequest,
    GetFeedStatsResponse,
    GetServerStatusRequest,
    GetServerStatusResponse,
    RebuildFeedRequest,
    RebuildFeedResponse,
    VerifyFeedRequest,
    VerifyFeedResponse,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.v1.activity_pb2 import Activity, ViewedActivity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    DeleteActivityRequest,
    Delivery,
    GetActivityRequest,
    GetDeliveryRequest,
    ListActivitiesRequest,
    ListActivitiesResponse,
    PublishActivityRequest,
    PublishActivityResponse,
)
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import FeedPage, PageEnd
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import (
    BatchFollowRequest,
    FollowRequest,
    FollowResponse,
    GetFollowCountsRequest,
    ListFollowersRequest,
    ListFollowingRequest,
    UnfollowRequest,
    UnfollowResponse,
)
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_NEW,
    SUBSCRIPTION_START_RESET,
    SubscribeActivitiesRequest,
    SubscribeAllRequest,
    SubscribeFeedRequest,
)
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from redis.asyncio import Redis

from feedsvc import wire
from feedsvc.config import Config, Limits
from feedsvc.core import address, ids, keys
from feedsvc.core.engine import Engine
from feedsvc.core.store import Store
from feedsvc.server import Server

#: Seconds that one step of a test may take. An answer that has not come by then does not come.
TIMEOUT_SECONDS = 20.0
#: Entries in each batch that carries a part of a long list of activities or edges.
BATCH_SIZE = 500

T = TypeVar("T", bound=Message)


def at_ms(ms: int) -> Timestamp:
    """Return the timestamp of a number of milliseconds since 1970."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


@dataclass(frozen=True)
class Refusal:
    """All that an error carries: its code, its message and its typed details."""

    code: grpc.StatusCode
    message: str
    status: Status

    def detail(self, kind: type[T]) -> T | None:
        """Return the detail of a message type; None if the error has no such detail."""
        for packed in self.status.details:
            detail = kind()
            if packed.Unpack(detail):
                return detail
        return None

    @property
    def info(self) -> ErrorInfo:
        info = self.detail(ErrorInfo)
        assert info is not None, f"an error without ErrorInfo: {self.code} {self.message}"
        return info

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.info.metadata)

    @property
    def rules(self) -> dict[str, str]:
        """The broken rules, by the path of the field."""
        bad_request = self.detail(BadRequest)
        if bad_request is None:
            return {}
        return {broken.field: broken.description for broken in bad_request.field_violations}

    @property
    def retry_ms(self) -> int | None:
        retry_info = self.detail(RetryInfo)
        return retry_info.retry_delay.ToMilliseconds() if retry_info else None

    @classmethod
    def from_status(cls, status: Status) -> "Refusal":
        """Return the refusal of one entry of a batch."""
        (code,) = (code for code in grpc.StatusCode if code.value[0] == status.code)
        return cls(code, status.message, status)


async def expect_refusal(call: Awaitable[Any]) -> Refusal:
    """Return the refusal of a call; fail the test if the call succeeds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Return the refusal in a gRPC error; fail if its two forms of the status disagree."""
    status = Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value if isinstance(value, bytes) else value.encode())
            assert status.code == error.code().value[0]
            assert status.message == error.details()
    return Refusal(error.code(), error.details() or "", status)


def events_of(message: Any) -> list[tuple[str, str]]:
    """Return the events in a message of any stream: of each its kind, and the id or entity in it.

    A message that says that a stream is resumed holds no event, nor does a heartbeat.
    """
    match message.WhichOneof("message"):
        case "started":
            kinds = {SUBSCRIPTION_START_NEW: ["started"], SUBSCRIPTION_START_RESET: ["reset"]}
            return [(kind, "") for kind in kinds.get(message.started.start, [])]
        case "events":
            return [event_of(event) for event in message.events.events]
        case _:
            return []


def event_of(event: Any) -> tuple[str, str]:
    """Return the kind of an event of a feed or an outbox, and the id or entity in it."""
    kind = event.WhichOneof("event")
    match kind:
        case "added":
            return kind, activity_of(event.added).id
        case "removed":
            return kind, getattr(event.removed, "item_id", "") or event.removed.activity_id
        case "source_changed":
            change = event.source_changed
            return ("followed" if change.following else "unfollowed"), change.entity
        case _:
            raise AssertionError(event)


def activity_of(listed: Any) -> Activity:
    """Return the activity in an item of a feed, or in a viewed activity."""
    activity = listed.activity
    return activity.activity if isinstance(activity, ViewedActivity) else activity


class Stream:
    """An open stream of one subscription."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.token = ""
        """Resume token of the last message that was read."""
        self._events: list[Any] = []

    async def read_message(self) -> Any:
        """Return the next message; fail if the stream has ended."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            message: Any = await self.call.read()
        assert message is not grpc.aio.EOF, "the stream has ended"
        self.token = message.resume_token
        return message

    async def read_event(self) -> tuple[str, str]:
        """Return the next event (see `events_of`); skip heartbeats."""
        while not self._events:
            self._events += events_of(await self.read_message())
        return self._events.pop(0)

    async def read_events(self, count: int) -> list[tuple[str, str]]:
        """Return a number of events."""
        return [await self.read_event() for _ in range(count)]

    async def read_until(self, last: tuple[str, str]) -> list[tuple[str, str]]:
        """Return all events up to a given one, which is the last of them."""
        events = [await self.read_event()]
        while events[-1] != last:
            events.append(await self.read_event())
        return events

    async def read_expired_token(self) -> str:
        """Return the fresh token with which a stream ends whose resume token has expired."""
        refusal = await read_until_refused(self)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "RESUME_TOKEN_EXPIRED",
        )
        return refusal.metadata["resume_token"]

    async def close(self) -> None:
        self.call.cancel()
        await self.call.code()


async def read_until_refused(stream: Any) -> Refusal:
    """Read the remaining messages of a stream; return the refusal that ends it."""
    while True:
        try:
            await stream.read_message()
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)


class Service:
    """A running server, its stubs, a client of its store, and shorthands for its calls."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, store: "Redis") -> None:
        self.server = server
        self.channel = channel
        self.store = store
        self.activities = ActivityServiceStub(channel)
        self.follows = FollowServiceStub(channel)
        self.feeds = FeedServiceStub(channel)
        self.subscriptions = SubscriptionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self._stack = AsyncExitStack()

    @classmethod
    async def start(cls, url: str, limits: Limits | None = None, **config: Any) -> "Service":
        """Start a server on a store; the caller stops it with `stop`.

        A server that stops cuts its streams, unless `drain_seconds` is given.
        """
        settings: dict[str, Any] = {"port": 0, "redis_url": url, "drain_seconds": 0} | config
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                Server(Config(limits=limits or Limits(), **settings))
            )
            store = address.client(url, protocol=2)
            stack.push_async_callback(address.close, store)
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            )
            service = cls(server, channel, store)
            service._stack = stack.pop_all()
        return service

    async def stop(self) -> None:
        await self._stack.aclose()

    # Activities.

    async def publish(
        self,
        actor: str,
        verb: str = "post",
        *,
        request_id: str = "",
        wait: bool = False,
        **fields: Any,
    ) -> PublishActivityResponse:
        activity = Activity(actor=actor, verb=verb, **fields)
        return await self.activities.PublishActivity(
            PublishActivityRequest(
                activity=activity, request_id=request_id, wait_for_delivery=wait
            ),
            timeout=TIMEOUT_SECONDS,
        )

    async def post(self, actor: str, **fields: Any) -> str:
        """Publish an activity; return its id."""
        return (await self.publish(actor, **fields)).activity.id

    async def post_all(self, activities: Sequence[Activity]) -> list[str]:
        """Publish activities in batches; return their ids, in order. No entry may be refused."""
        activity_ids: list[str] = []
        for first in range(0, len(activities), BATCH_SIZE):
            entries = [
                PublishActivityRequest(activity=activity)
                for activity in activities[first : first + BATCH_SIZE]
            ]
            answer = await self.activities.BatchPublishActivities(
                BatchPublishActivitiesRequest(requests=entries)
            )
            assert all(result.HasField("response") for result in answer.results), answer
            activity_ids += (result.response.activity.id for result in answer.results)
        return activity_ids

    async def post_many(self, actor: str, count: int, **fields: Any) -> list[str]:
        """Publish `count` activities of one actor; return their ids, oldest first."""
        return await self.post_all(
            [Activity(actor=actor, verb="post", **fields) for _ in range(count)]
        )

    async def get(self, activity_id: str) -> Activity:
        answer = await self.activities.GetActivity(GetActivityRequest(id=activity_id))
        return activity_of(answer)

    async def delivery(self, activity_id: str) -> Delivery:
        answer = await self.activities.GetDelivery(GetDeliveryRequest(id=activity_id))
        return answer.delivery

    async def delete(self, activity_id: str, actor: str, request_id: str = "") -> None:
        await self.activities.DeleteActivity(
            DeleteActivityRequest(id=activity_id, actor=actor, request_id=request_id)
        )

    async def outbox_page(
        self, entity: str, token: str = "", **query: Any
    ) -> ListActivitiesResponse:
        return await self.activities.ListActivities(
            ListActivitiesRequest(entity=entity, page_token=token, **query)
        )

    async def outbox(self, entity: str, **query: Any) -> list[str]:
        """Return the ids of the whole outbox, newest first."""
        activity_ids: list[str] = []
        token = ""
        while True:
            page = await self.outbox_page(entity, token, **query)
            activity_ids += (listed.activity.id for listed in page.activities)
            token = page.next_page_token
            if not token:
                return activity_ids

    # Edges.

    async def follow(self, follower: str, followee: str, request_id: str = "") -> FollowResponse:
        return await self.follows.Follow(
            FollowRequest(follower=follower, followee=followee, request_id=request_id)
        )

    async def follow_all(self, edges: Sequence[tuple[str, str]]) -> None:
        """Make edges (follower, followee) in batches. Fail if an entry is refused."""
        for first in range(0, len(edges), BATCH_SIZE):
            entries = [
                FollowRequest(follower=follower, followee=followee)
                for follower, followee in edges[first : first + BATCH_SIZE]
            ]
            answer = await self.follows.BatchFollow(BatchFollowRequest(requests=entries))
            assert all(result.HasField("response") for result in answer.results), answer

    async def unfollow(
        self, follower: str, followee: str, request_id: str = ""
    ) -> UnfollowResponse:
        return await self.follows.Unfollow(
            UnfollowRequest(follower=follower, followee=followee, request_id=request_id)
        )

    async def counts(self, entity: str) -> tuple[int, int]:
        """Return the number of an entity's followers and the number of its followees."""
        counts = await self.follows.GetFollowCounts(GetFollowCountsRequest(entity=entity))
        return counts.follower_count, counts.following_count

    async def followers(self, entity: str, size: int = 0) -> list[str]:
        """Return all followers of an entity, newest edge first."""
        followers: list[str] = []
        token = ""
        while True:
            page = await self.follows.ListFollowers(
                ListFollowersRequest(entity=entity, page_size=size, page_token=token)
            )
            followers += (edge.follower for edge in page.edges)
            token = page.next_page_token
            if not token:
                return followers

    async def following(self, entity: str, size: int = 0) -> list[str]:
        """Return all followees of an entity, newest edge first."""
        followees: list[str] = []
        token = ""
        while True:
            page = await self.follows.ListFollowing(
                ListFollowingRequest(entity=entity, page_size=size, page_token=token)
            )
            followees += (edge.followee for edge in page.edges)
            token = page.next_page_token
            if not token:
                return followees

    # Feeds.

    async def page(self, user: str, token: str = "", size: int = 0, **query: Any) -> FeedPage:
        answer = await self.feeds.GetFeed(
            GetFeedRequest(user=user, page_token=token, page_size=size, **query)
        )
        return answer.page

    async def walk(self, user: str, token: str = "", size: int = 0) -> AsyncIterator[FeedPage]:
        """Yield the pages towards older ids, to the end of the feed."""
        while True:
            page = await self.page(user, token, size)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def walk_newer(self, user: str, token: str, size: int = 0) -> AsyncIterator[FeedPage]:
        """Yield the pages towards newer ids, up to the newest item."""
        while True:
            page = await self.page(user, token, size)
            yield page
            token = page.newer_page_token
            if page.end == PageEnd.PAGE_END_NEWEST:
                return

    async def feed(self, user: str, size: int = 100) -> list[str]:
        """Return the ids of the whole feed, newest first."""
        return [
            activity_id
            async for page in self.walk(user, size=size)
            for activity_id in ids_on_page(page)
        ]

    async def warm(self, *users: str) -> None:
        """Have the service build the feeds of users."""
        for user in users:
            await self.page(user, size=1)

    async def subscribe(self, user: str, resume_token: str = "", viewer: str = "") -> Stream:
        """Open a stream of a feed.

        Without a token, read its `started` message too: the stream then tells all that happens from
        now on.
        """
        request = SubscribeFeedRequest(user=user, resume_token=resume_token, viewer=viewer)
        return await self._open(self.subscriptions.SubscribeFeed(request), resume_token)

    async def subscribe_activities(
        self, entity: str, resume_token: str = "", viewer: str = ""
    ) -> Stream:
        """Open a stream of an outbox, as `subscribe` does of a feed."""
        request = SubscribeActivitiesRequest(
            entity=entity, resume_token=resume_token, viewer=viewer
        )
        return await self._open(self.subscriptions.SubscribeActivities(request), resume_token)

    async def subscribe_all(self, resume_token: str = "") -> Stream:
        """Open a stream of all activities, as `subscribe` does of a feed."""
        request = SubscribeAllRequest(resume_token=resume_token)
        return await self._open(self.subscriptions.SubscribeAll(request), resume_token)

    async def _open(self, call: Any, resume_token: str) -> Stream:
        stream = Stream(call)
        if not resume_token:
            assert await stream.read_event() == ("started", "")
        return stream

    # The store.

    async def wait_for_deliveries(self) -> None:
        """Wait until no delivery waits or runs any more."""

        async def none_is_left() -> bool:
            status = await self.server.engine.jobs.status()
            return not (status.waiting or status.running or status.inline)

        await wait_until(none_is_left)

    async def stats(self, user: str) -> GetFeedStatsResponse:
        return await self.admin.GetFeedStats(GetFeedStatsRequest(user=user))

    async def server_status(self) -> GetServerStatusResponse:
        return await self.admin.GetServerStatus(GetServerStatusRequest(), timeout=TIMEOUT_SECONDS)

    async def verify(self, user: str) -> VerifyFeedResponse:
        return await self.admin.VerifyFeed(VerifyFeedRequest(user=user))

    async def rebuild(self, user: str) -> RebuildFeedResponse:
        return await self.admin.RebuildFeed(RebuildFeedRequest(user=user))

    def tag(self, entity: str) -> str:
        """Return the hash tag of the entity's shard."""
        limits = self.server.config.limits
        return keys.tags(limits.shards)[ids.shard_for(entity, limits.shards)]

    def activity_key(self, activity_id: str) -> str:
        (key,) = keys.activities(keys.tags(self.server.config.limits.shards), [int(activity_id)])
        return key

    async def make_cold(self, *users: str) -> None:
        """Make the feeds of users cold, as their expiry would."""
        for user in users:
            await self.store.delete(keys.feed(self.tag(user), user))

    async def dump(self) -> dict[bytes, bytes]:
        """Return the value of every key of the store."""
        stored_keys = sorted([key async for key in self.store.scan_iter(count=1000)])
        pipeline = self.store.pipeline(transaction=False)
        for key in stored_keys:
            pipeline.dump(key)
        return dict(zip(stored_keys, await pipeline.execute(), strict=True))


def ids_on_page(page: FeedPage) -> list[str]:
    """Return the ids of the activities on a page."""
    return [item.activity.activity.id for item in page.items]


class Serve(Protocol):
    def __call__(self, *, limits: Limits | None = None, **config: Any) -> Awaitable[Service]: ...


@pytest.fixture
async def serve(store_url: str) -> AsyncIterator[Serve]:
    """Start servers on the test's store; those that the test does not stop end with it."""
    async with AsyncExitStack() as stack:

        async def start(*, limits: Limits | None = None, **config: Any) -> Service:
            service = await Service.start(store_url, limits, **config)
            stack.push_async_callback(service.stop)
            return service

        yield start


@pytest.fixture
async def service(serve: Serve) -> Service:
    """Start a server with the default configuration."""
    return await serve()


async def wait_until(is_true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true. Raise TimeoutError if it does not become true in time."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await is_true():  # noqa: ASYNC110 (nothing in the store sets an Event)
            await asyncio.sleep(0.005)


def frame_of(actor: str, external_id: str = "", content: str = "") -> bytes:
    """Return the bytes of an activity as the service stores them."""
    activity = Activity(actor=actor, external_id=external_id, verb="post", content=content)
    return wire.frame_activity(activity, 0).frame


@asynccontextmanager
async def open_engine(url: str, limits: Limits) -> AsyncIterator[Engine]:
    """Open the core on a store, without a server."""
    store = Store.at(url, limits)
    await store.open()
    try:
        yield Engine.on(store)
    finally:
        await store.close()
