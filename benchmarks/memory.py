"""Memory: bytes of the store that a feed entry takes, and a follow.

The memory of an entry or a follow is the difference of `used_memory` with it and without it. So
keys, tables and the allocator's slack count; the heap of the store's script interpreter does not.
Each reading is taken at rest: after MEMORY PURGE, when no table is being rehashed and the number
stands still.

- *A feed entry*: feeds of 800 ids, built by a rebuild, or then filled by 102 publishes, in which
  each feed is trimmed twice; against sorted sets of the same ids, whose scores are the ids'
  milliseconds. Each round deletes the feeds or the sets, which gives the difference. 1,000 feeds;
  200 in a quick run.
- *A follow*: a random graph in which each user follows k others, so that authors have k followers
  on average; names like `user:123456`. Ours are all keys that BatchFollow without request ids
  writes: edges, indexes of followers, bitmaps. (A request id costs a record of its own for 24
  hours.) All feeds are cold. Against two plain sets, by SADD: `followers:<author>` and
  `following:<follower>`. Each side has an empty store of its own, with the same settings. S is the
  number of shards. 10,000 users at k=20 and 2,000 at k=200; 1,000 and 250 in a quick run.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population
from feedsvc.cli.load_test.bulk import batches
from feedsvc.config import Limits
from feedsvc.core import ids

#: Number of authors, whom all readers follow.
AUTHORS = 20
#: Publishes after which a feed that was full is exactly full again.
PUSHES = 2 * (Limits().feed_slack + 1)
#: Readings in a row that must agree.
STILL_READINGS = 4
#: Seconds between two readings.
STILL_SECONDS = 0.1
#: Bytes by which readings that agree may differ.
STILL_BYTES = 4_096
SEED = 20_120_701


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return the bytes of a feed entry, and of a follow for each graph and number of shards."""
    figures = await _entries(scale, progress)
    for followers, users in scale.graphs:
        for shards in scale.shards:
            figures.append(await _follows(followers, users, shards, scale, progress))
    return figures


async def _entries(scale: Scale, progress: Progress) -> list[Figure]:
    cap = Limits().feed_cap
    readers = population.users(scale.feeds)
    authors = [f"author:{number}" for number in range(AUTHORS)]
    async with open_stage() as stage:
        feeds = Feeds(stage, readers, authors, progress)
        edges = [(reader, author) for reader in readers for author in authors]
        await population.follow(stage.client, edges, progress)
        await feeds.publish(cap + 2 * AUTHORS)
        values = await in_turns(
            {"rebuilt": feeds.rebuilt, "pushed": feeds.pushed, "sorted": feeds.sorted_sets},
            scale.slow_rounds,
            progress,
            title="memory of feeds",
            warm_up=False,
        )
    return [
        Figure(
            f"memory of an entry in a full feed, {origin}",
            "bytes",
            "a sorted set of the same ids",
            values[side],
            values["sorted"],
            "<= 12 bytes",
            absolute=True,
        )
        for side, origin in (("rebuilt", "rebuilt"), ("pushed", "filled by pushes"))
    ]


class Feeds:
    """Feeds that are made, measured and deleted."""

    def __init__(
        self, stage: Stage, readers: list[str], authors: list[str], progress: Progress
    ) -> None:
        self._stage = stage
        self._readers = readers
        self._authors = authors
        self._progress = progress
        self._number = 0

    async def publish(self, count: int) -> None:
        """Publish activities by the authors in turn, one after the other."""
        for _ in range(count):
            self._number += 1
            author = self._authors[self._number % len(self._authors)]
            await population.publish(self._stage.client, population.activity(author, self._number))

    async def rebuilt(self) -> float:
        """Return the bytes of an entry in rebuilt feeds."""
        await population.warm(self._stage.client, self._readers, self._progress)
        return await self._weigh()

    async def pushed(self) -> float:
        """Return the bytes of an entry in feeds that pushes filled."""
        await population.warm(self._stage.client, self._readers, self._progress)
        await self.publish(PUSHES)
        return await self._weigh()

    async def sorted_sets(self) -> float:
        """Return the bytes of an entry in sorted sets of a feed's ids."""
        first = self._readers[0]
        await population.warm(self._stage.client, [first], self._progress)
        _, *activity_ids = await self._stage.redis.lrange(self._stage.feed(first), 0, -1)
        await self._stage.redis.delete(self._stage.feed(first))
        members = {member: ids.ms_of(int(member)) for member in activity_ids}
        keys = [f"feed:{reader}" for reader in self._readers]
        for key in keys:
            await self._stage.redis.zadd(key, members)
        return await _weigh(self._stage.redis, keys, len(keys) * len(members))

    async def _weigh(self) -> float:
        keys = [self._stage.feed(reader) for reader in self._readers]
        floors = 1
        entries = [await self._stage.redis.llen(key) - floors for key in keys]
        if set(entries) != {Limits().feed_cap}:
            raise RuntimeError(f"feeds hold {min(entries)} to {max(entries)} ids")
        return await _weigh(self._stage.redis, keys, sum(entries))


async def _weigh(redis: Any, keys: Sequence[str], entries: int) -> float:
    """Delete the keys, and return the bytes that this frees for each entry."""
    before = await at_rest(redis)
    for batch in batches(keys, population.BATCH):
        await redis.delete(*batch)
    return (before - await at_rest(redis)) / entries


async def _follows(
    followers: int, users: int, shards: int, scale: Scale, progress: Progress
) -> Figure:
    graph = _graph(users, followers)

    async def ours() -> float:
        async with open_stage(Limits(shards=shards)) as stage:
            before = await at_rest(stage.redis)
            await population.follow(stage.client, graph, progress)
            return (await at_rest(stage.redis) - before) / len(graph)

    async def theirs() -> float:
        async with open_stage(Limits(shards=shards)) as stage:
            before = await at_rest(stage.redis)
            for batch in batches(graph, population.BATCH):
                pipeline = stage.redis.pipeline(transaction=False)
                for follower, followee in batch:
                    pipeline.sadd(f"followers:{followee}", follower)
                    pipeline.sadd(f"following:{follower}", followee)
                await pipeline.execute()
            return (await at_rest(stage.redis) - before) / len(graph)

    name = f"memory of a follow, {followers} followers an author, S={shards}"
    values = await in_turns(
        {"ours": ours, "theirs": theirs}, scale.slow_rounds, progress, title=name, warm_up=False
    )
    return Figure(name, "bytes", "two plain sets", values["ours"], values["theirs"], "<= 1.3")


def _graph(users: int, followees: int) -> list[tuple[str, str]]:
    """Return edges from every user to as many others, drawn at random but always the same."""
    rng = random.Random(SEED)
    names = population.users(users)
    edges = []
    for number, follower in enumerate(names):
        numbers = rng.sample(range(users - 1), followees)
        # A number from the follower's own on stands for the next user: nobody follows itself.
        edges += [(follower, names[other + (other >= number)]) for other in numbers]
    return edges


async def at_rest(redis: Any) -> int:
    """Return the store's `used_memory` when the store has nothing left to tidy."""
    await redis.memory_purge()
    readings: list[int] = []
    while True:
        info = await redis.info("memory")
        readings = [*readings, int(info["used_memory"])][-STILL_READINGS:]
        is_still = max(readings) - min(readings) <= STILL_BYTES
        rehashing = int(info.get("mem_overhead_db_hashtable_rehashing", 0))
        if len(readings) == STILL_READINGS and is_still and not rehashing:
            return readings[-1]
        await asyncio.sleep(STILL_SECONDS)
