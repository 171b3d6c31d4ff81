"""Fan-out: deliveries a second of one author's activities to 10,000 full, warm feeds.

Ours is all of it: PublishActivity over gRPC, one at a time, each with `wait_for_delivery` and so
answered when every feed has the activity, which each answer confirms. A turn is 51 publishes, in
which each feed is trimmed once. The server pushes to the first 1,000 followers within the call, its
workers to the others; nobody has too many followers to be pushed to (celebrity_threshold 0).

- *The usual way*: SMEMBERS of the followers, then ZADD and ZREMRANGEBYRANK (to 800) on each one's
  sorted set, by redis.asyncio without transactions, 500 followers (1,000 commands) a pipeline. No
  body is written and no RPC made.
- *The limit*: RPUSHX and LTRIM on the same feeds from a script that does nothing else, one call for
  each shard and 250 followers, those of one round together in a pipeline. It trims at each insert,
  where the service trims each feed once in 51.
  The commands are put together before the clock runs, but for the id: a client's work is no part
  of the limit.
- *Late*: each tenth publish (6 of 51) has a place up to 8 ids before the end of the feeds; against
  a turn without. Both give all activities a `publish_time`.

All feeds have 800 ids of the same author at the start. Both kinds of feed lie in one store. Sizes:
10,000 followers, or 1,000 in a quick run; S is the number of shards. With 1,000 followers a call
of S=256 has 4 of them only, and the figures are lower than at full size.
"""

import time
from bisect import insort
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any

from benchmarks import population
from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import ALL_PUSHED, Stage, stage
from benchmarks.turns import in_turns
from feedsvc.config import Limits
from feedsvc.core import ids, keys

AUTHOR = "author"
#: A turn: the publishes after which a feed is trimmed again.
PUBLISHES = Limits().feed_slack + 1
#: Milliseconds between activities that are given a time.
STEP_MS = 1_000
#: Places before the end of the feed at which late activities land, in turn.
PLACES = (1, 5, 2, 8, 3, 6, 4, 7)
LATE_EVERY = 10
#: Feeds that are looked at in the end.
CHECKED = 100
FOLLOWERS_KEY = "usual:followers"

BARE = """
local id, most = ARGV[1], -tonumber(ARGV[2])
for i = 1, #KEYS do
  redis.call('RPUSHX', KEYS[i], id)
  redis.call('LTRIM', KEYS[i], most, -1)
end
"""


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of each number of shards."""
    figures = []
    for shards in scale.shards:
        async with stage(replace(ALL_PUSHED, shards=shards)) as on:
            figures += await _measure(on, scale, report)
    return figures


async def _measure(on: Stage, scale: Scale, report: Progress) -> list[Figure]:
    author = Author(on, population.users(scale.followers))
    await author.prepare(report)
    usual = Usual(on, author.followers)
    await usual.prepare(report)
    bare = Bare(on, author.followers)
    await bare.prepare()
    of = f"fan-out to {scale.followers:,}, S={on.shards}"

    async def turn(publish: Callable[[int], Awaitable[None]]) -> float:
        begun = time.perf_counter()
        for number in range(PUBLISHES):
            await publish(number)
        return PUBLISHES * scale.followers / (time.perf_counter() - begun)

    # First, because its times must lie above all that the feeds hold.
    places = await in_turns(
        {"late": lambda: turn(author.publish_late), "timed": lambda: turn(author.publish_timed)},
        scale.rounds,
        report,
        what=f"{of}: late and in order",
    )
    values = await in_turns(
        {
            "ours": lambda: turn(author.publish),
            "usual": lambda: turn(usual.publish),
            "bare": lambda: turn(bare.publish),
        },
        scale.rounds,
        report,
        what=f"{of}: ours, the usual way, the limit",
    )
    await bare.close()
    unit = "deliveries/s"
    return [
        Figure(
            of,
            unit,
            "ZADD + ZREMRANGEBYRANK by pipelines, the usual way",
            values["ours"],
            values["usual"],
            ">= 5",
        ),
        Figure(
            f"{of}, the limit",
            unit,
            "a bare script of RPUSHX + LTRIM",
            values["ours"],
            values["bare"],
            ">= 0.33",
        ),
        Figure(
            f"{of}, a tenth late",
            unit,
            "the same with all in order",
            places["late"],
            places["timed"],
            ">= 0.6",
        ),
    ]


class Author:
    """Ours: one author, and followers whose feeds are full."""

    def __init__(self, on: Stage, followers: list[str]) -> None:
        self.followers = followers
        self._on = on
        # A day ago: what is given a time is above what is there, and below what comes now.
        self._times = [int(time.time() * 1000) - 86_400_000]
        self._places = cycle(PLACES)

    async def prepare(self, report: Progress) -> None:
        """Publishes enough, and materialises all feeds of it."""
        client = self._on.client
        for _ in range(Limits().feed_cap + Limits().feed_slack):
            self._times.append(self._times[-1] + STEP_MS)
        activities = [population.activity(AUTHOR, ms=ms) for ms in self._times]
        await population.publish_all(client, activities, report)
        await population.follow(client, [(name, AUTHOR) for name in self.followers], report)
        await population.warm(client, self.followers, report)

    async def publish(self, number: int) -> None:
        await self._publish(number, None)

    async def publish_timed(self, number: int) -> None:
        self._times.append(self._times[-1] + STEP_MS)
        await self._publish(number, self._times[-1])

    async def publish_late(self, number: int) -> None:
        if number % LATE_EVERY:
            await self.publish_timed(number)
            return
        place = next(self._places)
        ms = (self._times[-place - 1] + self._times[-place]) // 2
        insort(self._times, ms)
        await self._publish(number, ms)

    async def _publish(self, number: int, ms: int | None) -> None:
        activity = population.activity(AUTHOR, number, ms)
        delivered = await population.publish(self._on.client, activity)
        if delivered != len(self.followers):
            raise RuntimeError(f"delivered to {delivered} feeds only")


class Usual:
    """The usual way: a sorted set for each feed, trimmed at each insert, by the client."""

    def __init__(self, on: Stage, followers: list[str]) -> None:
        self._redis = on.redis
        self._followers = followers
        self._last = 0

    async def prepare(self, report: Progress) -> None:
        """Fills the sorted sets."""
        cap = Limits().feed_cap
        begin = int(time.time() * 1000) - cap
        members = {str(ids.make(begin + number, 0, 0)): begin + number for number in range(cap)}
        await self._redis.sadd(FOLLOWERS_KEY, *self._followers)
        report.phase(f"{len(self._followers):,} sorted sets", len(self._followers))
        for name in self._followers:
            await self._redis.zadd(f"feed:{name}", members)
            report.advance()

    async def publish(self, number: int) -> None:  # noqa: ARG002 (an id tells all)
        now = self._last = max(int(time.time() * 1000), self._last + 1)
        activity_id = ids.make(now, 0, 0)
        followers = await self._redis.smembers(FOLLOWERS_KEY)
        for some in population.batches(list(followers)):
            pipeline = self._redis.pipeline(transaction=False)
            for name in some:
                feed = b"feed:" + name
                pipeline.zadd(feed, {activity_id: now})
                pipeline.zremrangebyrank(feed, 0, -1 - Limits().feed_cap)
            await pipeline.execute()


class Bare:
    """The limit: the store's own work on our feeds, and as little else as there can be."""

    def __init__(self, on: Stage, followers: list[str]) -> None:
        self._on = on
        self._followers = followers
        self._connection: Any = on.redis.connection_pool.make_connection()
        self._pipelines: list[list[bytes]] = []
        self._rest = b""

    async def prepare(self) -> None:
        """Loads the script, and puts the commands together up to the id."""
        await self._connection.connect()
        sha = await self._on.redis.script_load(BARE)
        by_shard: dict[str, list[str]] = {}
        for name in self._followers:
            by_shard.setdefault(self._on.tag(name), []).append(keys.feed(self._on.tag(name), name))
        limits = Limits()
        for feeds in by_shard.values():
            for number, some in enumerate(population.batches(feeds, limits.push_chunk)):
                if number == len(self._pipelines):
                    self._pipelines.append([])
                words = ["EVALSHA", sha, str(len(some)), *some]
                begin = f"*{len(words) + 2}\r\n".encode() + b"".join(map(_bulk, words))
                self._pipelines[number].append(begin)
        self._rest = _bulk(str(limits.feed_cap + limits.feed_slack + 1))

    async def publish(self, number: int) -> None:  # noqa: ARG002 (an id tells all)
        """An id of now, which is above those before it: a publish takes longer than 1 ms."""
        rest = _bulk(str(ids.make(int(time.time() * 1000), 0, 0))) + self._rest
        for begins in self._pipelines:
            await self._connection.send_packed_command([begin + rest for begin in begins])
            for _ in begins:
                await self._connection.read_response()

    async def close(self) -> None:
        """Disconnects. Raises RuntimeError if a feed is not in order."""
        await self._connection.disconnect()
        for name in self._followers[:CHECKED]:
            feed = await self._on.redis.lrange(self._on.feed(name), 0, -1)
            if any(above <= below for below, above in pairwise(feed)):
                raise RuntimeError(f"the feed of {name} is not in order")


def _bulk(word: str) -> bytes:
    return f"${len(word)}\r\n{word}\r\n".encode()
