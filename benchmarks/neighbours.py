"""Neighbours: the latency of a calm caller while another caller asks for as much as it may.

The calm caller is a process of its own with one connection, which makes 50 small publishes and 50
reads a second (`benchmarks.load.steady`). Beside it, on connections of its own, one load at a time:

- *2.9 MB of nulls*: batches of activities whose `extra` has 3,000 nulls each, one after another.
- *A batch to 1,000*: batches of 500 by an author with 1,000 followers, whose feeds are warm.
- *A batch with 32 to*: batches of 500 activities, each published `to` 32 entities.
- *Below the floor*: 16 readers at a time walk below their warm feeds; each follows 10,000 entities
  (1,000 in a quick run), with one activity each.
- *Waiting batches*: 8 batches of 500 at a time with `wait_for_delivery`, by authors with 1,000
  followers, in a queue that grows faster than the workers deliver.
- *64 batches*: 64 batches of 2.9 MB of text on their way at once, from one connection. Meanwhile
  the server's memory is measured.
- *ListFollowing*: pages of one edge of 10,000 (1,000), 64 calls at a time.

Figures are p99 of milliseconds from when a call of the calm caller was due, beside the load and
without it, in turns of 5 seconds (2). S = 16, one server process with its workers, one store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import ListFollowingRequest
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from google.protobuf.struct_pb2 import Struct

from benchmarks.harness.figures import Figure
from benchmarks.harness.processes import resident_bytes
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population, steady
from feedsvc.config import Limits

#: Calls of each kind a second that the calm caller makes.
RATE = 50
BATCH, READERS, AT_ONCE = 500, 16, 64
FOLLOWERS, TO = 1_000, 32
#: Seconds between looks at the server's memory.
LOOK_SECONDS = 0.02
#: Codes with which a busy server may refuse a call.
REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)

PUBLISH = "/activityfeed.v1.ActivityService/BatchPublishActivities"

Work = Callable[[], Awaitable[object]]
"""Function that makes one call of a load."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return the calm caller's p99 beside each load, and the server's memory."""
    # Feeds are short: a walk is soon below the floor. No author is a celebrity.
    limits = Limits(feed_cap=100, feed_slack=10, celebrity_threshold=0)
    figures: list[Figure] = []
    async with open_stage(limits) as stage, _channel(stage) as channel:
        await steady.prepare_publishes_and_reads(stage.client, stage.shards, progress)
        loads = await _loads(stage, channel, scale, progress)
        for name, works in loads.items():
            figures += await _beside(name, works, stage, scale, progress)
    return figures


@asynccontextmanager
async def _channel(stage: Stage) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(stage.target, options=options) as channel:
        yield channel


async def _loads(
    stage: Stage, channel: grpc.aio.Channel, scale: Scale, progress: Progress
) -> dict[str, list[Work]]:
    """Return the loads by name: calls that are repeated at the same time."""
    followees = scale.neighbour_followees
    follows, feeds = FollowServiceStub(channel), FeedServiceStub(channel)
    followee_names = [f"one of many:{number}" for number in range(followees)]
    fans = [f"fan:{number}" for number in range(FOLLOWERS)]
    readers = [f"deep:{number}" for number in range(READERS)]
    authors = [f"busy:{number}" for number in range(8)]
    await population.follow(
        stage.client,
        [(reader, other) for reader in readers for other in followee_names]
        + [(fan, author) for fan in fans for author in authors],
        progress,
    )
    await population.publish_all(
        stage.client, [population.activity(other) for other in followee_names], progress
    )
    await population.warm(stage.client, [*fans, *readers], progress)

    nulls = Struct()
    nulls["nulls"] = [None] * 3_000
    null_batch = _batch(Activity(actor="nulls", verb="post", extra=nulls) for _ in range(240))
    to = [f"to:{number}" for number in range(TO)]
    addressed = _batch(Activity(actor="sender", verb="post", to=to) for _ in range(BATCH))
    text = "x" * 5_700
    large = _batch(Activity(actor="writer", verb="post", content=text) for _ in range(BATCH))
    to_fans = _batch(population.activity(authors[0], number) for number in range(BATCH))
    waiting = [
        _batch((population.activity(author, number) for number in range(BATCH)), wait=True)
        for author in authors
    ]
    return {
        "batches of 2.9 MB of nulls": [_publishing(channel, null_batch)],
        "batches of 500 to 1,000 followers": [_publishing(channel, to_fans)],
        "batches of 500 with 32 `to`": [_publishing(channel, addressed)],
        f"{READERS} readers below the floor, {followees:,} followees": [
            _walking(feeds, reader) for reader in readers
        ],
        "8 batches of 500 that wait for delivery": [
            _publishing(channel, batch) for batch in waiting
        ],
        f"{AT_ONCE} batches of 2.9 MB at once": [
            _publishing(channel, large) for _ in range(AT_ONCE)
        ],
        f"{AT_ONCE} lists of {followees:,} followees, an edge a page": [
            _listing(follows, readers[0]) for _ in range(AT_ONCE)
        ],
    }


def _batch(activities: Iterable[Activity], *, wait: bool = False) -> bytes:
    entries = [
        PublishActivityRequest(activity=activity, wait_for_delivery=wait) for activity in activities
    ]
    return BatchPublishActivitiesRequest(requests=entries).SerializeToString()


def _publishing(channel: grpc.aio.Channel, batch: bytes) -> Work:
    """Send a batch, which is encoded already, and do not decode the answer."""
    send: Any = channel.unary_unary(PUBLISH)

    async def work() -> None:
        await send(batch)

    return work


def _walking(feeds: Any, reader: str) -> Work:
    """Read the next page of a walk below the warm feed."""
    token = ""

    async def work() -> None:
        nonlocal token
        request = GetFeedRequest(user=reader, page_size=100, page_token=token)
        token = (await feeds.GetFeed(request)).page.next_page_token

    return work


def _listing(follows: Any, follower: str) -> Work:
    """Read the next page of a list of edges."""
    token = ""

    async def work() -> None:
        nonlocal token
        request = ListFollowingRequest(entity=follower, page_size=1, page_token=token)
        token = (await follows.ListFollowing(request)).next_page_token

    return work


class Turns:
    """Turns with and without a load: the calm caller's times, and the server's memory."""

    def __init__(self, works: list[Work], stage: Stage, seconds: float) -> None:
        self._works = works
        self._stage = stage
        self._seconds = seconds
        self.quiet: list[steady.Times] = []
        self.loaded: list[steady.Times] = []
        self.memory: list[float] = []

    async def alone(self) -> float:
        """Let the calm caller be alone."""
        async with steady.steady_load(self._stage.target, RATE, self.quiet):
            await asyncio.sleep(self._seconds)
        return self._seconds

    async def together(self) -> float:
        """Put the load beside the calm caller."""
        before = resident_bytes(self._stage.server_pid) or 0
        async with steady.steady_load(self._stage.target, RATE, self.loaded):
            tasks = [asyncio.create_task(_repeat(work)) for work in self._works]
            peak = await self._peak_memory(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self.memory.append((peak - before) / 1e6)
        return self._seconds

    async def _peak_memory(self, tasks: list[asyncio.Task[None]]) -> int:
        """Wait until the turn ends, and return the most memory that the server had."""
        clock = asyncio.get_running_loop().time
        peak, ends = 0, clock() + self._seconds
        while clock() < ends:
            await asyncio.sleep(LOOK_SECONDS)
            peak = max(peak, resident_bytes(self._stage.server_pid) or 0)
            for task in tasks:
                if task.done():
                    task.result()
        return peak


async def _repeat(work: Work) -> None:
    while True:
        try:
            await work()
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSALS:
                raise
            await asyncio.sleep(LOOK_SECONDS)  # the server asks for a retry


async def _beside(
    name: str, works: list[Work], stage: Stage, scale: Scale, progress: Progress
) -> list[Figure]:
    """Return figures of the calm caller beside a load."""
    turns = Turns(works, stage, scale.neighbour_seconds)
    await in_turns(
        {"quiet": turns.alone, "loaded": turns.together},
        scale.slow_rounds,
        progress,
        title=f"beside {name}",
        warm_up=False,
    )
    await population.all_delivered(stage.client)
    return [
        *steady.p99_figures(
            f", p99 beside {name}", "the same without", turns.loaded, turns.quiet, "<= 5"
        ),
        Figure(f"memory that the server takes beside {name}", "MB", "", tuple(turns.memory)),
    ]
