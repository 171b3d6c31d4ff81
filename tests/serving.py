"""A real server in the test's own process, on the test's store, and a short way to talk to it.

`serve(limits=..., **config)` starts one, as often as a test likes; `service` is a default one.
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

#: No step of a test takes longer than this: what has not come by then does not come.
SECONDS = 20.0
#: Entries of the batches that a long list of activities or edges is sent in.
BATCH = 500

T = TypeVar("T", bound=Message)


def at_ms(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


@dataclass(frozen=True)
class Refusal:
    """What an error says, all of it: the code, the details, and what is fit for people to read."""

    code: grpc.StatusCode
    message: str
    status: Status

    def detail(self, kind: type[T]) -> T | None:
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
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
        """The rules that were broken, by the path of the field."""
        found = self.detail(BadRequest)
        return {one.field: one.description for one in found.field_violations} if found else {}

    @property
    def retry_ms(self) -> int | None:
        found = self.detail(RetryInfo)
        return found.retry_delay.ToMilliseconds() if found else None

    @classmethod
    def of(cls, status: Status) -> "Refusal":
        """The refusal of one entry of a batch."""
        (code,) = (code for code in grpc.StatusCode if code.value[0] == status.code)
        return cls(code, status.message, status)


async def refused(call: Awaitable[Any]) -> Refusal:
    """How a call is refused, which must be."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value if isinstance(value, bytes) else value.encode())
            assert status.code == error.code().value[0]
            assert status.message == error.details()
    return Refusal(error.code(), error.details() or "", status)


def said(message: Any) -> list[tuple[str, str]]:
    """What a message of any stream says, one by one: its kind, and what it is about.

    That a stream is resumed is nothing, and so is a heartbeat.
    """
    match message.WhichOneof("message"):
        case "started":
            kinds = {SUBSCRIPTION_START_NEW: ["started"], SUBSCRIPTION_START_RESET: ["reset"]}
            return [(kind, "") for kind in kinds.get(message.started.start, [])]
        case "events":
            return [event_said(event) for event in message.events.events]
        case _:
            return []


def event_said(event: Any) -> tuple[str, str]:
    """What an event of a feed, or of activities, says."""
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


def activity_of(shown: Any) -> Activity:
    """The activity in an item of a feed, or in what a viewer sees."""
    activity = shown.activity
    return activity.activity if isinstance(activity, ViewedActivity) else activity


class Stream:
    """An open stream of one subscription."""

    def __init__(self, call: Any) -> None:
        self.call = call
        #: Of the last message that was read.
        self.token = ""
        self._events: list[Any] = []

    async def message(self) -> Any:
        async with asyncio.timeout(SECONDS):
            message: Any = await self.call.read()
        assert message is not grpc.aio.EOF, "the stream has ended"
        self.token = message.resume_token
        return message

    async def event(self) -> tuple[str, str]:
        """The next thing that it says (see ``said``), over heartbeats."""
        while not self._events:
            self._events += said(await self.message())
        return self._events.pop(0)

    async def events(self, count: int) -> list[tuple[str, str]]:
        return [await self.event() for _ in range(count)]

    async def until(self, last: tuple[str, str]) -> list[tuple[str, str]]:
        """All events up to one."""
        found = [await self.event()]
        while found[-1] != last:
            found.append(await self.event())
        return found

    async def expired(self) -> str:
        """The fresh token that the stream ends with, when its log no longer reaches back."""
        refusal = await end_of(self)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "RESUME_TOKEN_EXPIRED",
        )
        return refusal.metadata["resume_token"]

    async def close(self) -> None:
        self.call.cancel()
        await self.call.code()


async def end_of(stream: Any) -> Refusal:
    """How a stream ends, over what is left of it."""
    while True:
        try:
            await stream.message()
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)


class Service:
    """A running server, its stubs, a client of its store, and shorthands for all of it."""

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
        """Starts a server on a store; `stop` it. Unless told otherwise it cuts streams."""
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
            timeout=SECONDS,
        )

    async def post(self, actor: str, **fields: Any) -> str:
        """Publishes; returns the id."""
        return (await self.publish(actor, **fields)).activity.id

    async def post_all(self, activities: Sequence[Activity]) -> list[str]:
        """Publishes many, in batches; returns their ids, in order. None may be refused."""
        found: list[str] = []
        for first in range(0, len(activities), BATCH):
            entries = [
                PublishActivityRequest(activity=one) for one in activities[first : first + BATCH]
            ]
            answer = await self.activities.BatchPublishActivities(
                BatchPublishActivitiesRequest(requests=entries)
            )
            assert all(one.HasField("response") for one in answer.results), answer
            found += (one.response.activity.id for one in answer.results)
        return found

    async def posts(self, actor: str, count: int, **fields: Any) -> list[str]:
        """Publishes `count` activities of one actor; returns their ids, oldest first."""
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
        """The ids of the whole outbox, newest first."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.outbox_page(entity, token, **query)
            found += (one.activity.id for one in page.activities)
            token = page.next_page_token
            if not token:
                return found

    # Edges.

    async def follow(self, follower: str, followee: str, request_id: str = "") -> FollowResponse:
        return await self.follows.Follow(
            FollowRequest(follower=follower, followee=followee, request_id=request_id)
        )

    async def follow_all(self, edges: Sequence[tuple[str, str]]) -> None:
        """Makes many edges (follower, followee), in batches. None may be refused."""
        for first in range(0, len(edges), BATCH):
            entries = [
                FollowRequest(follower=a, followee=b) for a, b in edges[first : first + BATCH]
            ]
            answer = await self.follows.BatchFollow(BatchFollowRequest(requests=entries))
            assert all(one.HasField("response") for one in answer.results), answer

    async def unfollow(
        self, follower: str, followee: str, request_id: str = ""
    ) -> UnfollowResponse:
        return await self.follows.Unfollow(
            UnfollowRequest(follower=follower, followee=followee, request_id=request_id)
        )

    async def counts(self, entity: str) -> tuple[int, int]:
        """Followers, following."""
        found = await self.follows.GetFollowCounts(GetFollowCountsRequest(entity=entity))
        return found.follower_count, found.following_count

    async def followers(self, entity: str, size: int = 0) -> list[str]:
        """All followers, newest edge first."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.follows.ListFollowers(
                ListFollowersRequest(entity=entity, page_size=size, page_token=token)
            )
            found += (edge.follower for edge in page.edges)
            token = page.next_page_token
            if not token:
                return found

    async def following(self, entity: str, size: int = 0) -> list[str]:
        """All followed, newest edge first."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.follows.ListFollowing(
                ListFollowingRequest(entity=entity, page_size=size, page_token=token)
            )
            found += (edge.followee for edge in page.edges)
            token = page.next_page_token
            if not token:
                return found

    # Feeds.

    async def page(self, user: str, token: str = "", size: int = 0, **query: Any) -> FeedPage:
        answer = await self.feeds.GetFeed(
            GetFeedRequest(user=user, page_token=token, page_size=size, **query)
        )
        return answer.page

    async def walk(self, user: str, token: str = "", size: int = 0) -> AsyncIterator[FeedPage]:
        """The pages towards older ids, to the end."""
        while True:
            page = await self.page(user, token, size)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def walk_newer(self, user: str, token: str, size: int = 0) -> AsyncIterator[FeedPage]:
        """The pages towards newer ids, until the newest is reached."""
        while True:
            page = await self.page(user, token, size)
            yield page
            token = page.newer_page_token
            if page.end == PageEnd.PAGE_END_NEWEST:
                return

    async def feed(self, user: str, size: int = 100) -> list[str]:
        """The ids of the whole feed, newest first."""
        return [one async for page in self.walk(user, size=size) for one in ids_of(page)]

    async def warm(self, *users: str) -> None:
        """Has the feeds of users materialised."""
        for user in users:
            await self.page(user, size=1)

    async def subscribe(self, user: str, resume_token: str = "", viewer: str = "") -> Stream:
        """An open stream. Without a token its `started` is read already: it tells from now on."""
        request = SubscribeFeedRequest(user=user, resume_token=resume_token, viewer=viewer)
        stream = Stream(self.subscriptions.SubscribeFeed(request))
        if not resume_token:
            assert await stream.event() == ("started", "")
        return stream

    async def subscribe_activities(
        self, entity: str, resume_token: str = "", viewer: str = ""
    ) -> Stream:
        """The same of an outbox."""
        request = SubscribeActivitiesRequest(
            entity=entity, resume_token=resume_token, viewer=viewer
        )
        stream = Stream(self.subscriptions.SubscribeActivities(request))
        if not resume_token:
            assert await stream.event() == ("started", "")
        return stream

    async def subscribe_all(self, resume_token: str = "") -> Stream:
        """The same of everything."""
        request = SubscribeAllRequest(resume_token=resume_token)
        stream = Stream(self.subscriptions.SubscribeAll(request))
        if not resume_token:
            assert await stream.event() == ("started", "")
        return stream

    # What is stored.

    async def at_rest(self) -> None:
        """Until nothing is being delivered any more."""

        async def nothing() -> bool:
            status = await self.server.engine.jobs.status()
            return not (status.waiting or status.running or status.inline)

        await until(nothing)

    async def stats(self, user: str) -> GetFeedStatsResponse:
        return await self.admin.GetFeedStats(GetFeedStatsRequest(user=user))

    async def verify(self, user: str) -> VerifyFeedResponse:
        return await self.admin.VerifyFeed(VerifyFeedRequest(user=user))

    async def rebuild(self, user: str) -> RebuildFeedResponse:
        return await self.admin.RebuildFeed(RebuildFeedRequest(user=user))

    def tag(self, entity: str) -> str:
        """The hash tag of the entity's shard."""
        limits = self.server.config.limits
        return keys.tags(limits.shards)[ids.shard_for(entity, limits.shards)]

    def activity_key(self, activity_id: str) -> str:
        (key,) = keys.activities(keys.tags(self.server.config.limits.shards), [int(activity_id)])
        return key

    async def chill(self, *users: str) -> None:
        """Makes the feeds of users cold, as their expiry would."""
        for user in users:
            await self.store.delete(keys.feed(self.tag(user), user))

    async def dump(self) -> dict[bytes, bytes]:
        """Every key of the store with all that it holds."""
        names = sorted([name async for name in self.store.scan_iter(count=1000)])
        pipeline = self.store.pipeline(transaction=False)
        for name in names:
            pipeline.dump(name)
        return dict(zip(names, await pipeline.execute(), strict=True))


def ids_of(page: FeedPage) -> list[str]:
    return [item.activity.activity.id for item in page.items]


class Serve(Protocol):
    def __call__(self, *, limits: Limits | None = None, **config: Any) -> Awaitable[Service]: ...


@pytest.fixture
async def serve(store_url: str) -> AsyncIterator[Serve]:
    """Start servers on the test's store; each is stopped at the end, if not by the test."""
    async with AsyncExitStack() as stack:

        async def start(*, limits: Limits | None = None, **config: Any) -> Service:
            service = await Service.start(store_url, limits, **config)
            stack.push_async_callback(service.stop)
            return service

        yield start


@pytest.fixture
async def service(serve: Serve) -> Service:
    """A server with the default configuration."""
    return await serve()


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(SECONDS):
        while not await happened():  # noqa: ASYNC110 (nothing in the store sets an Event)
            await asyncio.sleep(0.005)


def frame_of(actor: str, external_id: str = "", what: str = "") -> bytes:
    """An activity as it is stored."""
    activity = Activity(actor=actor, external_id=external_id, verb="post", content=what)
    return wire.frame_activity(activity, 0).frame


@asynccontextmanager
async def engine_on(url: str, limits: Limits) -> AsyncIterator[Engine]:
    """The core on a store, without a server."""
    store = Store.at(url, limits)
    await store.open()
    try:
        yield Engine.on(store)
    finally:
        await store.close()
