"""Entities, follows and activities, made by the calls that any client makes."""

import asyncio
import random
from collections.abc import Sequence

from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    FEED_STATE_WARM,
    GetFanoutStatusRequest,
    RebuildFeedRequest,
)
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_DELIVERED, PublishActivityRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest

from benchmarks.harness.progress import Progress
from feedsvc import convert
from feedsvc.cli.load_test.bulk import BulkWriter
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.core import ids

#: Calls in flight.
LANES = 6
#: Entries of a batch.
BATCH = 500
#: Candidates among which each shard finds a follower.
CANDIDATES = 1_000
#: Seconds between looks at the deliveries that are not done.
LOOK_SECONDS = 0.05


def names(kind: str, count: int) -> list[str]:
    """Return entity ids of a usual length: ``user:123456`` has eleven bytes."""
    return [f"{kind}:{100_000 + number}" for number in range(count)]


def users(count: int) -> list[str]:
    return names("user", count)


def activity(actor: str, number: int = 0, ms: int | None = None) -> Activity:
    """Return a push to a repository, of about 120 bytes, with the publish time ``ms``."""
    push = Activity(
        actor=actor,
        verb="push",
        object=Ref(id=f"commit:{number:040x}", type="Commit", name=f"Commit number {number}"),
        target=Ref(id="repo:linux", name="linux"),
    )
    if ms is not None:
        push.publish_time.CopyFrom(convert.timestamp_ms(ms))
    return push


def encoded_publishes(authors: Sequence[str]) -> list[bytes]:
    """Return a PublishActivity request by each author, as it is sent."""
    return [
        PublishActivityRequest(activity=activity(author)).SerializeToString() for author in authors
    ]


def follower_of_each_shard(shards: int, candidates: Sequence[str]) -> list[str]:
    """Return a candidate of each shard, in the order of the shards."""
    by_shard = {ids.shard_for(name, shards): name for name in candidates}
    return [by_shard[shard] for shard in range(shards)]


def scattered_edges(
    authors: Sequence[str], followers: Sequence[str], count: int, rng: random.Random
) -> list[tuple[str, str]]:
    """Return edges that give each author ``count`` of the followers.

    If the followers are of different shards, an author's are too.
    """
    return [(follower, author) for author in authors for follower in rng.sample(followers, count)]


async def follow(client: FeedClient, edges: Sequence[tuple[str, str]], progress: Progress) -> None:
    """Make edges, each of a follower and a followee."""
    requests = [FollowRequest(follower=follower, followee=followee) for follower, followee in edges]
    writer = BulkWriter(client, progress, batch=BATCH, lanes=LANES)
    await writer.follow(f"{len(edges):,} follows", requests)


async def warm(client: FeedClient, readers: Sequence[str], progress: Progress) -> None:
    """Build the readers' feeds."""

    async def rebuild(reader: str) -> None:
        answer = await client.admin.RebuildFeed(RebuildFeedRequest(user=reader))
        if answer.state != FEED_STATE_WARM:
            raise RuntimeError(f"the feed of {reader} did not become warm")
        progress.advance()

    progress.begin(f"{len(readers):,} feeds", len(readers))
    await in_lanes(readers, rebuild, lanes=4 * LANES)


async def publish(client: FeedClient, new_activity: Activity) -> int:
    """Publish an activity, wait for its delivery, and return the number of feeds it reached."""
    request = PublishActivityRequest(activity=new_activity, wait_for_delivery=True)
    answer = await client.activities.PublishActivity(request)
    if answer.delivery.state != DELIVERY_STATE_DELIVERED:
        raise RuntimeError(f"the delivery did not end: {answer.delivery}")
    return answer.delivery.delivered_count


async def publish_all(
    client: FeedClient, activities: Sequence[Activity], progress: Progress
) -> None:
    """Publish activities in their order: in batches, one batch after the other."""
    requests = [PublishActivityRequest(activity=new_activity) for new_activity in activities]
    writer = BulkWriter(client, progress, batch=BATCH, lanes=1)
    await writer.publish(f"{len(activities):,} activities", requests)


async def all_delivered(client: FeedClient) -> None:
    """Wait until no delivery and no flip is under way. Raise RuntimeError for a dead letter."""
    while True:
        status = await client.admin.GetFanoutStatus(GetFanoutStatusRequest())
        if status.dead_letter_count:
            raise RuntimeError("a delivery became a dead letter")
        if not status.open_count and not status.inline_count:
            return
        await asyncio.sleep(LOOK_SECONDS)
