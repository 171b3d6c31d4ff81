"""Entities, follows and activities for the stage, made by calls as any client makes them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    FEED_STATE_WARM,
    GetFanoutStatusRequest,
    RebuildFeedRequest,
)
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest

from benchmarks.progress import Progress
from feedsvc import convert

#: Calls on their way at once.
LANES = 6
#: Rows a batch.
BATCH = 500
#: Seconds between looks at what is still to be delivered.
LOOK_SECONDS = 0.05

_Item = TypeVar("_Item")


def users(count: int) -> list[str]:
    """Names as they are: ``user:123456``, eleven bytes."""
    return [f"user:{100_000 + number}" for number in range(count)]


def activity(actor: str, number: int = 0, ms: int | None = None) -> Activity:
    """A push to a repository, of about 120 bytes, done at ``ms``."""
    made = Activity(
        actor=actor,
        verb="push",
        object=Ref(id=f"commit:{number:040x}", type="Commit", name=f"Commit number {number}"),
        target=Ref(id="repo:linux", name="linux"),
    )
    if ms is not None:
        made.publish_time.CopyFrom(convert.timestamp_ms(ms))
    return made


async def follow(client: FeedClient, edges: Sequence[tuple[str, str]], report: Progress) -> None:
    """Makes edges, (follower, followee)."""

    async def make(some: Sequence[tuple[str, str]]) -> None:
        requests = [FollowRequest(follower=one, followee=other) for one, other in some]
        answer = await client.follows.BatchFollow(BatchFollowRequest(requests=requests))
        if not all(result.HasField("response") for result in answer.results):
            raise RuntimeError("a follow was refused")
        report.advance(len(some))

    report.phase(f"{len(edges):,} follows", len(edges))
    await in_lanes(batches(edges), make)


async def warm(client: FeedClient, names: Sequence[str], report: Progress) -> None:
    """Materialises feeds."""

    async def rebuild(name: str) -> None:
        answer = await client.admin.RebuildFeed(RebuildFeedRequest(user=name))
        if answer.state != FEED_STATE_WARM:
            raise RuntimeError(f"the feed of {name} did not become warm")
        report.advance()

    report.phase(f"{len(names):,} feeds", len(names))
    await in_lanes(names, rebuild, lanes=4 * LANES)


async def publish(client: FeedClient, one: Activity) -> int:
    """Publishes an activity, and waits; the warm feeds of followers that it was put into."""
    request = PublishActivityRequest(activity=one, wait_for_delivery=True)
    answer = await client.activities.PublishActivity(request)
    if answer.delivery.state != DELIVERY_STATE_DELIVERED:
        raise RuntimeError(f"the delivery did not end: {answer.delivery}")
    return answer.delivery.delivered_count


async def publish_all(client: FeedClient, activities: Sequence[Activity], report: Progress) -> None:
    """Publishes activities in batches, one batch after the other."""
    report.phase(f"{len(activities):,} activities", len(activities))
    for some in batches(activities):
        requests = [PublishActivityRequest(activity=one) for one in some]
        answer = await client.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=requests)
        )
        if not all(result.HasField("response") for result in answer.results):
            raise RuntimeError("an activity was refused")
        report.advance(len(some))


async def settled(client: FeedClient) -> None:
    """Waits until nothing is to be delivered or flipped any more."""
    while True:
        status = await client.admin.GetFanoutStatus(GetFanoutStatusRequest())
        if status.dead_letter_count:
            raise RuntimeError("a delivery was set aside")
        if not status.open_count and not status.inline_count:
            return
        await asyncio.sleep(LOOK_SECONDS)


def batches(items: Sequence[_Item], size: int = BATCH) -> list[Sequence[_Item]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


async def in_lanes(
    items: Sequence[_Item], work: Callable[[_Item], Awaitable[None]], *, lanes: int = LANES
) -> None:
    """Works on the items, several at once, begun in order."""
    waiting: Iterator[_Item] = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
