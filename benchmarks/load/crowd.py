"""A crowd: followers by the hundred thousand, whose feeds are written directly.

The users follow by BatchFollow, as any client does. But the service would take ten minutes to build
a million feeds one at a time. So, for the preparation only, the feeds are copies of one feed that
the benchmark writes as the service would: a packed list, floor 0 and 50 ids from before
the run, with the time to live of a feed that was just read. The activities of these ids do not
exist; a push does not read them.
"""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.progress import Progress
from benchmarks.harness.stage import Stage
from benchmarks.load import population
from feedsvc.cli.load_test.bulk import batches
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.config import Limits
from feedsvc.core import ids

#: Ids in a feed that was just written.
FEED_IDS = 50
#: Feeds that a call writes or deletes.
FEEDS_A_CALL = 1_000
TEMPLATE = "crowd:template"

COPY = """
for i = 2, #KEYS do redis.call('COPY', KEYS[1], KEYS[i], 'REPLACE') end
"""


class Crowd:
    """Users in an order. An author is followed by the first users of the crowd."""

    def __init__(self, stage: Stage, count: int) -> None:
        self._stage = stage
        self._redis: Any = stage.redis
        self.users = population.users(count)
        self._feeds = [stage.feed(name) for name in self.users]
        self._sha = ""

    async def prepare(self) -> None:
        """Write the feed that all others are copied from."""
        begin = int(time.time() * 1000) - FEED_IDS
        feed_ids = [str(ids.make(begin + number, 0, 0)) for number in range(FEED_IDS)]
        await self._redis.rpush(TEMPLATE, "0", *feed_ids)
        await self._redis.expire(TEMPLATE, Limits().feed_ttl)
        self._sha = await self._redis.script_load(COPY)

    async def follow(self, author: str, count: int, progress: Progress) -> None:
        """Have the first ``count`` users follow an author."""
        edges = [(name, author) for name in self.users[:count]]
        await population.follow(self._stage.client, edges, progress)

    async def warm(self, count: int, progress: Progress | None = None, *, step: int = 1) -> None:
        """Write the feeds of every ``step``-th of the first ``count`` users anew."""

        async def write(batch: Sequence[str]) -> None:
            await self._redis.evalsha(self._sha, 1 + len(batch), TEMPLATE, *batch)
            if progress is not None:
                progress.advance(len(batch))

        feeds = self._feeds[:count:step]
        if progress is not None:
            progress.begin(f"{len(feeds):,} feeds", len(feeds))
        await in_lanes(batches(feeds, FEEDS_A_CALL), write, lanes=population.LANES)

    async def chill(self, progress: Progress, *, step: int) -> None:
        """Delete all feeds but those of every ``step``-th user."""

        async def delete(batch: Sequence[str]) -> None:
            await self._redis.unlink(*batch)
            progress.advance(len(batch))

        feeds = [feed for number, feed in enumerate(self._feeds) if number % step]
        progress.begin(f"{len(feeds):,} feeds that become cold", len(feeds))
        await in_lanes(batches(feeds, FEEDS_A_CALL), delete, lanes=population.LANES)
