"""Memory: bytes of the store that a feed entry takes, and a follow.

What a thing takes is how `used_memory` differs with it and without it, so keys, tables and the
allocator's slack are all counted. The heap of the store's script interpreter is no part of it. Each
reading is taken at rest: after MEMORY PURGE, when no table is being rehashed and the number stands
still.

- *A feed entry*: feeds of 800 ids, materialised by a rebuild, or filled up by 102 publishes after
  it, in which each was trimmed twice; against sorted sets of the same ids, whose scores are the
  ids' milliseconds. Both are deleted again each round, which gives the difference. 1,000 feeds; 200
  in a quick run.
- *A follow*: a random graph in which each user follows k others, so that authors have k followers
  on average; names like `user:123456`. Ours are all keys that BatchFollow without request ids
  writes: edges, indexes of followers, bitmaps. (A request id costs a record of its own for 24
  hours.) All feeds are cold. Against two plain sets, by SADD: `followers:<author>` and
  `following:<follower>`. Each side has an empty store of its own, of the same settings. S is the
  number of shards. 10,000 users at k=20 and 2,000 at k=200; 1,000 and 250 in a quick run.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from benchmarks import population
from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, stage
from benchmarks.turns import in_turns
from feedsvc.config import Limits
from feedsvc.core import ids

#: Authors that all readers follow.
AUTHORS = 20
#: After these a feed that was full at first is as full again.
PUSHES = 2 * (Limits().feed_slack + 1)
#: Readings that must agree, the seconds between them, and the bytes within which they agree.
STILL_READINGS = 4
STILL_SECONDS = 0.1
STILL_BYTES = 4_096
SEED = 20_120_701


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Bytes a feed entry, and bytes a follow for each graph and number of shards."""
    figures = await _entries(scale, report)
    for followers, users in scale.graphs:
        for shards in scale.shards:
            figures.append(await _follows(followers, users, shards, scale, report))
    return figures


async def _entries(scale: Scale, report: Progress) -> list[Figure]:
    cap = Limits().feed_cap
    readers = population.users(scale.feeds)
    authors = [f"author:{number}" for number in range(AUTHORS)]
    async with stage() as on:
        feeds = Feeds(on, readers, authors, report)
        edges = [(reader, author) for reader in readers for author in authors]
        await population.follow(on.client, edges, report)
        await feeds.publish(cap + 2 * AUTHORS)
        values = await in_turns(
            {"rebuilt": feeds.rebuilt, "pushed": feeds.pushed, "sorted": feeds.sorted_sets},
            scale.few_rounds,
            report,
            what="memory of feeds",
            warm_up=False,
        )
    return [
        Figure(
            f"memory of an entry in a full feed, {how}",
            "bytes",
            "a sorted set of the same ids",
            values[side],
            values["sorted"],
            "<= 12 bytes",
            absolute=True,
        )
        for side, how in (("rebuilt", "rebuilt"), ("pushed", "filled by pushes"))
    ]


class Feeds:
    """Feeds that are made, weighed and deleted."""

    def __init__(self, on: Stage, readers: list[str], authors: list[str], report: Progress) -> None:
        self._on = on
        self._readers = readers
        self._authors = authors
        self._report = report
        self._number = 0

    async def publish(self, count: int) -> None:
        """By the authors in turn, one after the other."""
        for _ in range(count):
            self._number += 1
            author = self._authors[self._number % len(self._authors)]
            await population.publish(self._on.client, population.activity(author, self._number))

    async def rebuilt(self) -> float:
        await population.warm(self._on.client, self._readers, self._report)
        return await self._weighed()

    async def pushed(self) -> float:
        await population.warm(self._on.client, self._readers, self._report)
        await self.publish(PUSHES)
        return await self._weighed()

    async def sorted_sets(self) -> float:
        """Sorted sets of what a feed holds."""
        first = self._readers[0]
        await population.warm(self._on.client, [first], self._report)
        _, *held = await self._on.redis.lrange(self._on.feed(first), 0, -1)
        await self._on.redis.delete(self._on.feed(first))
        members = {member: ids.ms_of(int(member)) for member in held}
        keys = [f"feed:{reader}" for reader in self._readers]
        for key in keys:
            await self._on.redis.zadd(key, members)
        return await _weighed(self._on.redis, keys, len(keys) * len(members))

    async def _weighed(self) -> float:
        keys = [self._on.feed(reader) for reader in self._readers]
        floors = 1
        entries = [await self._on.redis.llen(key) - floors for key in keys]
        if set(entries) != {Limits().feed_cap}:
            raise RuntimeError(f"feeds hold {min(entries)} to {max(entries)} ids")
        return await _weighed(self._on.redis, keys, sum(entries))


async def _weighed(redis: Any, keys: Sequence[str], entries: int) -> float:
    """Bytes an entry, by deleting the keys."""
    before = await at_rest(redis)
    for some in population.batches(keys):
        await redis.delete(*some)
    return (before - await at_rest(redis)) / entries


async def _follows(
    followers: int, users: int, shards: int, scale: Scale, report: Progress
) -> Figure:
    graph = _graph(users, followers)

    async def ours() -> float:
        async with stage(Limits(shards=shards)) as on:
            before = await at_rest(on.redis)
            await population.follow(on.client, graph, report)
            return (await at_rest(on.redis) - before) / len(graph)

    async def theirs() -> float:
        async with stage(Limits(shards=shards)) as on:
            before = await at_rest(on.redis)
            for some in population.batches(graph):
                pipeline = on.redis.pipeline(transaction=False)
                for follower, followee in some:
                    pipeline.sadd(f"followers:{followee}", follower)
                    pipeline.sadd(f"following:{follower}", followee)
                await pipeline.execute()
            return (await at_rest(on.redis) - before) / len(graph)

    name = f"memory of a follow, {followers} followers an author, S={shards}"
    values = await in_turns(
        {"ours": ours, "theirs": theirs}, scale.few_rounds, report, what=name, warm_up=False
    )
    return Figure(name, "bytes", "two plain sets", values["ours"], values["theirs"], "<= 1.3")


def _graph(users: int, each: int) -> list[tuple[str, str]]:
    """Every user follows as many others, drawn at random, the same ones each time."""
    draw = random.Random(SEED)
    names = population.users(users)
    edges = []
    for number, follower in enumerate(names):
        others = draw.sample(range(users - 1), each)
        # Past oneself.
        edges += [(follower, names[other + (other >= number)]) for other in others]
    return edges


async def at_rest(redis: Any) -> int:
    """The store's `used_memory` when nothing is being tidied any more."""
    await redis.memory_purge()
    readings: list[int] = []
    while True:
        info = await redis.info("memory")
        readings = [*readings, int(info["used_memory"])][-STILL_READINGS:]
        still = max(readings) - min(readings) <= STILL_BYTES
        rehashing = int(info.get("mem_overhead_db_hashtable_rehashing", 0))
        if len(readings) == STILL_READINGS and still and not rehashing:
            return readings[-1]
        await asyncio.sleep(STILL_SECONDS)
