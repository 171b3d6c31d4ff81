"""Fan-out: deliveries a second of one author's activities to 10,000 full, warm feeds.

Ours is the whole call: PublishActivity over gRPC, one at a time, each with `wait_for_delivery`. So
the answer confirms that every feed has the activity. A turn is 51 publishes, in which each feed is
trimmed once. The server pushes to the first 1,000 followers within the call; its workers push to
the others. No entity is a celebrity (celebrity_threshold 0).

- *The usual way*: SMEMBERS of the followers, then ZADD and ZREMRANGEBYRANK (to 800) on each
  follower's sorted set, by redis.asyncio without transactions, 500 followers (1,000 commands) a
  pipeline. It writes no body and makes no RPC.
- *The limit*: RPUSHX and LTRIM on the same feeds from a script that does nothing else, one call for
  each shard and 250 followers, the calls of a round together in a pipeline. It trims at each
  insert, where the service trims each feed once in 51 inserts. The commands, all but their id, are
  encoded before the clock runs: a client's work is no part of the limit.
- *Late*: every tenth publish (6 of 51) belongs up to 8 ids before the end of the feeds; against a
  turn without late publishes. In both turns all activities have a `publish_time`.

All feeds have 800 ids of the same author at the start. Both kinds of feed lie in one store. Sizes:
10,000 followers, or 1,000 in a quick run; S is the number of shards. With 1,000 followers a call of
S=256 has only 4 of them, and the figures are lower than at full size.
"""

import time
from bisect import insort
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import ALL_PUSHED, Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population
from feedsvc.cli.load_test.bulk import batches
from feedsvc.config import Limits
from feedsvc.core import ids

AUTHOR = "author"
#: Publishes of a turn, after which a feed is trimmed again.
PUBLISHES = Limits().feed_slack + 1
#: Milliseconds between activities with a publish time.
STEP_MS = 1_000
#: Ids between a late activity and the end of the feed, in turn.
OFFSETS = (1, 5, 2, 8, 3, 6, 4, 7)
LATE_EVERY = 10
#: Feeds whose order is checked in the end.
CHECKED = 100
FOLLOWERS_KEY = "usual:followers"

BARE = """
local id, first = ARGV[1], -tonumber(ARGV[2])
for i = 1, #KEYS do
  redis.call('RPUSHX', KEYS[i], id)
  redis.call('LTRIM', KEYS[i], first, -1)
end
"""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of each number of shards."""
    figures = []
    for shards in scale.shards:
        async with open_stage(replace(ALL_PUSHED, shards=shards)) as stage:
            figures += await _measure(stage, scale, progress)
    return figures


async def _measure(stage: Stage, scale: Scale, progress: Progress) -> list[Figure]:
    author = Author(stage, population.users(scale.followers))
    await author.prepare(progress)
    usual = Usual(stage, author.followers)
    await usual.prepare(progress)
    bare = Bare(stage, author.followers)
    await bare.prepare()
    name = f"fan-out to {scale.followers:,}, S={stage.shards}"

    async def turn(publish: Callable[[int], Awaitable[None]]) -> float:
        begun = time.perf_counter()
        for number in range(PUBLISHES):
            await publish(number)
        return PUBLISHES * scale.followers / (time.perf_counter() - begun)

    # These turns come first, because their publish times must lie above all ids of the feeds.
    ordered = await in_turns(
        {"late": lambda: turn(author.publish_late), "timed": lambda: turn(author.publish_timed)},
        scale.rounds,
        progress,
        title=f"{name}: late and in order",
    )
    values = await in_turns(
        {
            "ours": lambda: turn(author.publish),
            "usual": lambda: turn(usual.publish),
            "bare": lambda: turn(bare.publish),
        },
        scale.rounds,
        progress,
        title=f"{name}: ours, the usual way, the limit",
    )
    await bare.close()
    unit = "deliveries/s"
    return [
        Figure(
            name,
            unit,
            "ZADD + ZREMRANGEBYRANK by pipelines, the usual way",
            values["ours"],
            values["usual"],
            ">= 5",
        ),
        Figure(
            f"{name}, the limit",
            unit,
            "a bare script of RPUSHX + LTRIM",
            values["ours"],
            values["bare"],
            ">= 0.33",
        ),
        Figure(
            f"{name}, a tenth late",
            unit,
            "the same with all in order",
            ordered["late"],
            ordered["timed"],
            ">= 0.6",
        ),
    ]


class Author:
    """The service: an author, and followers whose feeds are full."""

    def __init__(self, stage: Stage, followers: list[str]) -> None:
        self.followers = followers
        self._stage = stage
        # A day ago: these times lie above those of earlier activities, and below the present.
        self._times = [int(time.time() * 1000) - 86_400_000]
        self._offsets = cycle(OFFSETS)

    async def prepare(self, progress: Progress) -> None:
        """Publish enough activities to fill the feeds, and build the feeds."""
        client = self._stage.client
        for _ in range(Limits().feed_cap + Limits().feed_slack):
            self._times.append(self._times[-1] + STEP_MS)
        activities = [population.activity(AUTHOR, ms=ms) for ms in self._times]
        await population.publish_all(client, activities, progress)
        await population.follow(client, [(name, AUTHOR) for name in self.followers], progress)
        await population.warm(client, self.followers, progress)

    async def publish(self, number: int) -> None:
        await self._publish(number, None)

    async def publish_timed(self, number: int) -> None:
        self._times.append(self._times[-1] + STEP_MS)
        await self._publish(number, self._times[-1])

    async def publish_late(self, number: int) -> None:
        if number % LATE_EVERY:
            await self.publish_timed(number)
            return
        offset = next(self._offsets)
        ms = (self._times[-offset - 1] + self._times[-offset]) // 2
        insort(self._times, ms)
        await self._publish(number, ms)

    async def _publish(self, number: int, ms: int | None) -> None:
        activity = population.activity(AUTHOR, number, ms)
        delivered = await population.publish(self._stage.client, activity)
        if delivered != len(self.followers):
            raise RuntimeError(f"delivered to only {delivered} feeds")


class Usual:
    """The usual way: a sorted set for each feed, which the client trims at each insert."""

    def __init__(self, stage: Stage, followers: list[str]) -> None:
        self._redis = stage.redis
        self._followers = followers
        self._last = 0

    async def prepare(self, progress: Progress) -> None:
        """Fill the sorted sets."""
        cap = Limits().feed_cap
        begin = int(time.time() * 1000) - cap
        members = {str(ids.make(begin + number, 0, 0)): begin + number for number in range(cap)}
        await self._redis.sadd(FOLLOWERS_KEY, *self._followers)
        progress.begin(f"{len(self._followers):,} sorted sets", len(self._followers))
        for name in self._followers:
            await self._redis.zadd(f"feed:{name}", members)
            progress.advance()

    async def publish(self, number: int) -> None:  # noqa: ARG002 (ids have no number)
        now = self._last = max(int(time.time() * 1000), self._last + 1)
        activity_id = ids.make(now, 0, 0)
        followers = await self._redis.smembers(FOLLOWERS_KEY)
        for batch in batches(list(followers), population.BATCH):
            pipeline = self._redis.pipeline(transaction=False)
            for name in batch:
                feed = b"feed:" + name
                pipeline.zadd(feed, {activity_id: now})
                pipeline.zremrangebyrank(feed, 0, -1 - Limits().feed_cap)
            await pipeline.execute()


class Bare:
    """The limit: the store's own work on the service's feeds, and as little else as possible."""

    def __init__(self, stage: Stage, followers: list[str]) -> None:
        self._stage = stage
        self._followers = followers
        self._connection: Any = stage.redis.connection_pool.make_connection()
        self._pipelines: list[list[bytes]] = []
        self._last_argument = b""

    async def prepare(self) -> None:
        """Load the script, and put the commands together up to the id."""
        await self._connection.connect()
        sha = await self._stage.redis.script_load(BARE)
        by_shard: dict[str, list[str]] = {}
        for name in self._followers:
            feed = self._stage.feed(name)
            by_shard.setdefault(self._stage.tag(name), []).append(feed)
        limits = Limits()
        for feeds in by_shard.values():
            for number, batch in enumerate(batches(feeds, limits.push_chunk)):
                if number == len(self._pipelines):
                    self._pipelines.append([])
                words = ["EVALSHA", sha, str(len(batch)), *batch]
                begin = f"*{len(words) + 2}\r\n".encode() + b"".join(map(_bulk, words))
                self._pipelines[number].append(begin)
        self._last_argument = _bulk(str(limits.feed_cap + limits.feed_slack + 1))

    async def publish(self, number: int) -> None:  # noqa: ARG002 (ids have no number)
        """Push an id of now, which is above the last id: a publish takes longer than 1 ms."""
        activity_id = str(ids.make(int(time.time() * 1000), 0, 0))
        end = _bulk(activity_id) + self._last_argument
        for begins in self._pipelines:
            await self._connection.send_packed_command([begin + end for begin in begins])
            for _ in begins:
                await self._connection.read_response()

    async def close(self) -> None:
        """Disconnect. Raise RuntimeError if a feed is not in order."""
        await self._connection.disconnect()
        for name in self._followers[:CHECKED]:
            feed = await self._stage.redis.lrange(self._stage.feed(name), 0, -1)
            if any(above <= below for below, above in pairwise(feed)):
                raise RuntimeError(f"the feed of {name} is not in order")


def _bulk(word: str) -> bytes:
    """Return a word as the store's protocol has it, a bulk string."""
    return f"${len(word)}\r\n{word}\r\n".encode()
