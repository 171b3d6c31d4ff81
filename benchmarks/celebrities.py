"""Celebrities: what a page costs whose reader follows some that are not pushed to him.

Two stores of their own, each with a server, and the same in both: a user who follows 5,000
authors, among them 100 celebrities, who have 40 fans. In one store the celebrities are pulled,
because 20 followers are enough for it (celebrity_threshold); in the other nobody is (0). Feeds are
made warm when half of the activities are published, so that the other half is pushed, or, if it is
the celebrities', is not: each of these has done 20 things, the others 2. S = 16. The first pages of
both must be the same.

- *Page*: GetFeed of the newest 20, one call after the other; p50 and p99 of a turn of 1,000 (100 in
  a quick run).
- *Store*: what one such page asks of the store, by its own counters: commands that the server
  sends, commands with those that scripts call, and bytes of the answers. The server has no workers
  that would ask for work meanwhile.
- *Hot outbox*: 64 users who follow one celebrity, and ten others each, read their warm feeds, 64
  at a time in a closed loop. Scripts that the store runs for a page, but for the one that reads
  the feed: that is, reads of the celebrity's outbox. It would be 1 if each page had its own.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from activityfeed.admin.v1.admin_service_pb2 import GetFeedStatsRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks import population
from benchmarks.figures import Figure, quantile
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, serving, stage
from benchmarks.turns import in_turns, timed
from feedsvc.config import Limits

THRESHOLD = 20
FOLLOWEES, CELEBRITIES, FANS = 5_000, 100, 40
#: Followees for each activity of a celebrity.
STEP = 5
PAGE = 20
#: Pages after which the store's counters are read again.
COUNTED = 100
READER = "reader"
HOT = "celebrity:hot"
HOT_READERS, HOT_FOLLOWEES = 64, 10
#: By what server commands are sent; all others come from scripts.
SENT = ("evalsha", "mget")


@dataclass(frozen=True, slots=True)
class Cost:
    """What pages asked of a store, a page."""

    sent: float
    commands: float
    answered: float
    scripts: float


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of a page, of the store's work for it, and of a hot outbox."""
    async with AsyncExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, threshold in (("pulled", THRESHOLD), ("pushed", 0)):
            limits = Limits(celebrity_threshold=threshold)
            on = await stack.enter_async_context(stage(limits, workers=0))
            sides[name] = Side(on, limits)
            await sides[name].prepare(report)
        if await sides["pulled"].first_page() != await sides["pushed"].first_page():
            raise RuntimeError("the pages differ")
        return [
            *await _pages(sides, scale, report),
            *await _costs(sides, scale, report),
            await _hot(sides["pulled"], scale, report),
        ]


async def _pages(sides: "dict[str, Side]", scale: Scale, report: Progress) -> list[Figure]:
    slow: dict[str, list[float]] = {name: [] for name in sides}

    def turn(name: str) -> Callable[[], Awaitable[float]]:
        async def pages() -> float:
            times = await timed(sides[name].page, scale.calls)
            slow[name].append(quantile(times, 0.99))
            return quantile(times, 0.5)

        return pages

    values = await in_turns(
        {name: turn(name) for name in sides}, scale.rounds, report, what="celebrities"
    )
    # The first is that of the turns that warm up.
    tails = {name: tuple(times[1:]) for name, times in slow.items()}
    return [
        Figure(_name(share), "ms", "the same with none pulled", of["pulled"], of["pushed"])
        for share, of in (("p50", values), ("p99", tails))
    ]


async def _costs(sides: "dict[str, Side]", scale: Scale, report: Progress) -> list[Figure]:
    costs: dict[str, list[Cost]] = {name: [] for name in sides}

    def turn(name: str) -> Callable[[], Awaitable[float]]:
        async def count() -> float:
            costs[name].append(await sides[name].cost(COUNTED, 1, [READER]))
            return costs[name][-1].sent

        return count

    await in_turns(
        {name: turn(name) for name in sides},
        scale.few_rounds,
        report,
        what="celebrities: the store",
        warm_up=False,
    )
    return [
        Figure(
            _name(what),
            unit,
            "the same with none pulled",
            tuple(map(told, costs["pulled"])),
            tuple(map(told, costs["pushed"])),
        )
        for what, unit, told in (
            ("commands sent", "commands", lambda cost: cost.sent),
            ("commands in all", "commands", lambda cost: cost.commands),
            ("store's answers", "bytes", lambda cost: cost.answered),
        )
    ]


async def _hot(side: "Side", scale: Scale, report: Progress) -> Figure:
    values = await in_turns(
        {"hot": side.outbox_reads(scale)},
        scale.rounds,
        report,
        what="celebrities: a hot outbox",
    )
    name = f"a celebrity's outbox, {HOT_READERS} pages at a time: reads of it a page"
    return Figure(name, "reads", "", values["hot"])


def _name(what: str) -> str:
    return f"page of a warm feed, {FOLLOWEES:,} followees, {CELEBRITIES} pulled, {what}"


class Side:
    """A store and its server, with the reader, those he follows, and the readers of one outbox."""

    def __init__(self, on: Stage, limits: Limits) -> None:
        self._on = on
        self._limits = limits
        names = [f"author:{number}" for number in range(FOLLOWEES)]
        self._celebrities, self._others = names[:CELEBRITIES], names[CELEBRITIES:]
        self._hot_readers = [f"hot:{number}" for number in range(HOT_READERS)]

    async def prepare(self, report: Progress) -> None:
        """Everything up to warm feeds, and activities after that."""
        await self._publish(0, report)
        # The workers of another server make the celebrities' edges PULL.
        async with serving(self._on.url, self._limits):
            await population.follow(self._on.client, self._edges(), report)
            await population.settled(self._on.client)
        await population.warm(self._on.client, [READER, *self._hot_readers], report)
        await self._publish(1, report)
        for user, pulled in ((READER, CELEBRITIES), (self._hot_readers[0], 1)):
            stats = await self._on.client.admin.GetFeedStats(GetFeedStatsRequest(user=user))
            if stats.pulled_count != (pulled if self._limits.celebrity_threshold else 0):
                raise RuntimeError(f"{user} pulls {stats.pulled_count}")

    def _edges(self) -> list[tuple[str, str]]:
        fans = [f"fan:{number}" for number in range(FANS)]
        edges = [(READER, one) for one in (*self._celebrities, *self._others)]
        edges += [(fan, one) for fan in fans for one in self._celebrities]
        own = iter(self._others)
        for reader in self._hot_readers:
            edges += [(reader, one) for one in (HOT, *islice(own, HOT_FOLLOWEES))]
        return edges

    async def _publish(self, half: int, report: Progress) -> None:
        """Half of the activities, with times, so that their order is the same in both stores."""
        actors, celebrities = [HOT], cycle(self._celebrities)
        for number, author in enumerate(self._others):
            actors.append(author)
            if number % STEP == 0:
                actors.append(next(celebrities))
        # Up to now a minute ago, or half a minute.
        begin = int(time.time() * 1000) - (60_000 if half == 0 else 30_000)
        made = [population.activity(one, at, begin + at) for at, one in enumerate(actors)]
        await population.publish_all(self._on.client, made, report)

    async def page(self) -> object:
        """The newest activities of the reader."""
        return await self._read(READER)

    async def _read(self, user: str) -> Any:
        return await self._on.client.feeds.GetFeed(GetFeedRequest(user=user, page_size=PAGE))

    async def first_page(self) -> list[tuple[str, str]]:
        """Who did what."""
        items = (await self._read(READER)).page.items
        if len(items) != PAGE:
            raise RuntimeError(f"{len(items)} activities instead of {PAGE}")
        return [(item.activity.activity.actor, item.activity.activity.object.id) for item in items]

    def outbox_reads(self, scale: Scale) -> Callable[[], Awaitable[float]]:
        """Of a page, when the readers of one outbox all read at once."""

        async def turn() -> float:
            cost = await self.cost(scale.calls, HOT_READERS, self._hot_readers)
            return cost.scripts - 1

        return turn

    async def cost(self, pages: int, at_a_time: int, users: list[str]) -> Cost:
        """Of so many pages of these users in turn."""
        before, bytes_before = await self._counters()
        waiting = islice(cycle(users), pages)

        async def lane() -> None:
            for user in waiting:
                await self._read(user)

        await asyncio.gather(*(lane() for _ in range(at_a_time)))
        after, bytes_after = await self._counters()
        called = after - before
        return Cost(
            sum(called[name] for name in SENT) / pages,
            called.total() / pages,
            (bytes_after - bytes_before) / pages,
            called["evalsha"] / pages,
        )

    async def _counters(self) -> tuple[Counter[str], int]:
        """How often each command ran, in scripts too; the bytes that the store answered."""
        found = await self._on.redis.info("everything")
        calls = Counter(
            {
                name.removeprefix("cmdstat_"): of["calls"]
                for name, of in found.items()
                if name.startswith("cmdstat_") and name != "cmdstat_info"
            }
        )
        return calls, found["total_net_output_bytes"]
