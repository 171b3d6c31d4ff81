"""Celebrities: the cost of a page whose reader pulls the activities of celebrities.

Two stores, each with a server, hold the same data: a user who follows 5,000 authors, among them 100
celebrities with 40 fans each. In one store the celebrities are pulled, because 20 followers make an
entity a celebrity (celebrity_threshold); in the other no entity is a celebrity (0). Feeds become
warm when half of the activities are published. The other half is pushed, except the activities of
the celebrities in the first store. Each celebrity publishes 20 activities, each other author 2. S =
16. The first pages of both stores must be the same.

- *Page*: GetFeed of the newest 20, one call after the other; p50 and p99 of a turn of 1,000 (100 in
  a quick run).
- *Store*: the work of the store for such a page, by the store's own counters: commands that the
  server sends, commands with those that scripts call, and bytes of the answers. The server has no
  workers, because they would send commands meanwhile.
- *Hot outbox*: 64 users who follow one celebrity, and ten other authors each, read their warm
  feeds, 64 at a time in a closed loop. The figure is the number of scripts that the store runs for
  a page, without the script that reads the feed: that is, reads of the celebrity's outbox. The
  figure would be 1 if each page had a read of its own.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from activityfeed.admin.v1.admin_service_pb2 import GetFeedStatsRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage, serving
from benchmarks.harness.turns import in_turns, percentiles_in_turns, timed
from benchmarks.load import population
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.config import Limits

THRESHOLD = 20
FOLLOWEES, CELEBRITIES, FANS = 5_000, 100, 40
#: Activities of other authors for each activity of a celebrity.
STEP = 5
PAGE = 20
#: Pages between two readings of the store's counters.
COUNTED = 100
READER = "reader"
HOT = "celebrity:hot"
HOT_READERS, HOT_FOLLOWEES = 64, 10
#: Commands that the server sends; scripts call all others.
SENT = ("evalsha", "mget")


@dataclass(frozen=True, slots=True)
class Cost:
    """The work of the store for a page, on average."""

    sent: float
    """Commands that the server sends."""
    commands: float
    """Commands with those that scripts call."""
    answered: float
    """Bytes of the answers."""
    scripts: float
    """Scripts that the store runs."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of a page, of the store's work for it, and of a hot outbox."""
    async with AsyncExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, threshold in (("pulled", THRESHOLD), ("pushed", 0)):
            limits = Limits(celebrity_threshold=threshold)
            stage = await stack.enter_async_context(open_stage(limits, workers=0))
            sides[name] = Side(stage, limits)
            await sides[name].prepare(progress)
        if await sides["pulled"].first_page() != await sides["pushed"].first_page():
            raise RuntimeError("the pages differ")
        return [
            *await _pages(sides, scale, progress),
            *await _costs(sides, scale, progress),
            await _hot(sides["pulled"], scale, progress),
        ]


async def _pages(sides: "dict[str, Side]", scale: Scale, progress: Progress) -> list[Figure]:
    def side(name: str) -> Callable[[], Awaitable[list[float]]]:
        return lambda: timed(sides[name].page, scale.calls)

    times = await percentiles_in_turns(
        {name: side(name) for name in sides}, scale.rounds, progress, title="celebrities"
    )
    against = "the same with none pulled"
    return [
        Figure(_name(share), "ms", against, values["pulled"], values["pushed"])
        for share, values in times.items()
    ]


async def _costs(sides: "dict[str, Side]", scale: Scale, progress: Progress) -> list[Figure]:
    costs: dict[str, list[Cost]] = {name: [] for name in sides}

    def turn(name: str) -> Callable[[], Awaitable[float]]:
        async def count() -> float:
            costs[name].append(await sides[name].cost(COUNTED, 1, [READER]))
            return costs[name][-1].sent

        return count

    await in_turns(
        {name: turn(name) for name in sides},
        scale.slow_rounds,
        progress,
        title="celebrities: the store",
        warm_up=False,
    )
    return [
        Figure(
            _name(quantity),
            unit,
            "the same with none pulled",
            tuple(map(value_of, costs["pulled"])),
            tuple(map(value_of, costs["pushed"])),
        )
        for quantity, unit, value_of in (
            ("commands sent", "commands", lambda cost: cost.sent),
            ("commands in all", "commands", lambda cost: cost.commands),
            ("store's answers", "bytes", lambda cost: cost.answered),
        )
    ]


async def _hot(side: "Side", scale: Scale, progress: Progress) -> Figure:
    values = await in_turns(
        {"hot": side.outbox_reads(scale)},
        scale.rounds,
        progress,
        title="celebrities: a hot outbox",
    )
    name = f"a celebrity's outbox, {HOT_READERS} pages at a time: reads of it a page"
    return Figure(name, "reads", "", values["hot"])


def _name(quantity: str) -> str:
    return f"page of a warm feed, {FOLLOWEES:,} followees, {CELEBRITIES} pulled, {quantity}"


class Side:
    """A store and its server, with the reader, its followees, and the readers of one outbox."""

    def __init__(self, stage: Stage, limits: Limits) -> None:
        self._stage = stage
        self._limits = limits
        names = [f"author:{number}" for number in range(FOLLOWEES)]
        self._celebrities, self._others = names[:CELEBRITIES], names[CELEBRITIES:]
        self._hot_readers = [f"hot:{number}" for number in range(HOT_READERS)]

    async def prepare(self, progress: Progress) -> None:
        """Make edges and activities, warm the feeds, and publish the other activities."""
        await self._publish(0, progress)
        # The workers of another server turn the celebrities' edges into PULL.
        async with serving(self._stage.url, self._limits):
            await population.follow(self._stage.client, self._edges(), progress)
            await population.all_delivered(self._stage.client)
        await population.warm(self._stage.client, [READER, *self._hot_readers], progress)
        await self._publish(1, progress)
        for user, pulled in ((READER, CELEBRITIES), (self._hot_readers[0], 1)):
            stats = await self._stage.client.admin.GetFeedStats(GetFeedStatsRequest(user=user))
            if stats.pulled_count != (pulled if self._limits.celebrity_threshold else 0):
                raise RuntimeError(f"{user} pulls {stats.pulled_count}")

    def _edges(self) -> list[tuple[str, str]]:
        fans = [f"fan:{number}" for number in range(FANS)]
        edges = [(READER, author) for author in (*self._celebrities, *self._others)]
        edges += [(fan, celebrity) for fan in fans for celebrity in self._celebrities]
        others = iter(self._others)
        for reader in self._hot_readers:
            edges += [(reader, author) for author in (HOT, *islice(others, HOT_FOLLOWEES))]
        return edges

    async def _publish(self, half: int, progress: Progress) -> None:
        """Publish half of the activities, with times: their order is the same in both stores."""
        actors, celebrities = [HOT], cycle(self._celebrities)
        for number, author in enumerate(self._others):
            actors.append(author)
            if number % STEP == 0:
                actors.append(next(celebrities))
        # The first half is a minute old, the second half 30 seconds.
        begin = int(time.time() * 1000) - (60_000 if half == 0 else 30_000)
        activities = [
            population.activity(actor, number, begin + number)
            for number, actor in enumerate(actors)
        ]
        await population.publish_all(self._stage.client, activities, progress)

    async def page(self) -> object:
        """Return the newest page of the reader."""
        return await self._read(READER)

    async def _read(self, user: str) -> Any:
        return await self._stage.client.feeds.GetFeed(GetFeedRequest(user=user, page_size=PAGE))

    async def first_page(self) -> list[tuple[str, str]]:
        """Return the actor and the object of each activity of the reader's newest page."""
        items = (await self._read(READER)).page.items
        if len(items) != PAGE:
            raise RuntimeError(f"{len(items)} activities instead of {PAGE}")
        return [(item.activity.activity.actor, item.activity.activity.object.id) for item in items]

    def outbox_reads(self, scale: Scale) -> Callable[[], Awaitable[float]]:
        """Return a turn that counts reads of the hot outbox a page, while all its readers read."""

        async def turn() -> float:
            cost = await self.cost(scale.calls, HOT_READERS, self._hot_readers)
            return cost.scripts - 1

        return turn

    async def cost(self, pages: int, lanes: int, users: list[str]) -> Cost:
        """Read pages of the users in turn, ``lanes`` at a time, and return the cost of a page."""
        before, bytes_before = await self._counters()
        await in_lanes(islice(cycle(users), pages), self._read, lanes=lanes)
        after, bytes_after = await self._counters()
        called = after - before
        return Cost(
            sum(called[name] for name in SENT) / pages,
            called.total() / pages,
            (bytes_after - bytes_before) / pages,
            called["evalsha"] / pages,
        )

    async def _counters(self) -> tuple[Counter[str], int]:
        """Return how often each command ran, in scripts too, and the bytes of the answers."""
        info = await self._stage.redis.info("everything")
        calls = Counter(
            {
                name.removeprefix("cmdstat_"): value["calls"]
                for name, value in info.items()
                if name.startswith("cmdstat_") and name != "cmdstat_info"
            }
        )
        return calls, info["total_net_output_bytes"]
