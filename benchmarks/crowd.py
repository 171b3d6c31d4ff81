"""A crowd: followers by the hundred thousand, whose feeds are written directly.

They follow by BatchFollow, as any client makes follows. But to have the service materialise a
million feeds one at a time would take ten minutes, so, for set-up only, they are copied from one
that is written as the service would write it: a packed list, floor 0 and 50 ids from before the
run, with the time to live of a feed that was just read. The activities of these ids are not there;
whoever pushes to a feed does not ask for them.
"""

import time
from typing import Any

from benchmarks import population
from benchmarks.progress import Progress
from benchmarks.stage import Stage
from feedsvc.config import Limits
from feedsvc.core import ids

#: Ids in a feed that was just written.
HELD = 50
#: Feeds that are written, or thrown away, at a time.
FEEDS_A_CALL = 1_000
TEMPLATE = "crowd:template"

COPY = """
for i = 2, #KEYS do redis.call('COPY', KEYS[1], KEYS[i], 'REPLACE') end
"""


class Crowd:
    """Users of whom authors are followed by the first so many."""

    def __init__(self, on: Stage, count: int) -> None:
        self._on = on
        self._redis: Any = on.redis
        self.users = population.users(count)
        self._feeds = [on.feed(name) for name in self.users]
        self._sha = ""

    async def prepare(self) -> None:
        """Writes the feed that all others are copied from."""
        begin = int(time.time() * 1000) - HELD
        held = [str(ids.make(begin + number, 0, 0)) for number in range(HELD)]
        await self._redis.rpush(TEMPLATE, "0", *held)
        await self._redis.expire(TEMPLATE, Limits().feed_ttl)
        self._sha = await self._redis.script_load(COPY)

    async def follow(self, author: str, count: int, report: Progress) -> None:
        """Has an author followed by the first so many."""
        edges = [(name, author) for name in self.users[:count]]
        await population.follow(self._on.client, edges, report)

    async def warm(self, count: int, report: Progress | None = None, *, each: int = 1) -> None:
        """Writes the feeds of the first so many anew, or those of each tenth or so of them."""

        async def write(some: Any) -> None:
            await self._redis.evalsha(self._sha, 1 + len(some), TEMPLATE, *some)
            if report is not None:
                report.advance(len(some))

        feeds = self._feeds[:count:each]
        if report is not None:
            report.phase(f"{len(feeds):,} feeds", len(feeds))
        await population.in_lanes(population.batches(feeds, FEEDS_A_CALL), write)

    async def chill(self, report: Progress, *, but: int) -> None:
        """Throws away all feeds but each tenth or so."""

        async def forget(some: Any) -> None:
            await self._redis.unlink(*some)
            report.advance(len(some))

        feeds = [feed for number, feed in enumerate(self._feeds) if number % but]
        report.phase(f"{len(feeds):,} feeds that become cold", len(feeds))
        await population.in_lanes(population.batches(feeds, FEEDS_A_CALL), forget)
