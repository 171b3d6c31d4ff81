"""One activity of a celebrity whom all subscribers follow.

10,000 users (1,000 in a quick run), each with a stream of its own (`live_subscribers.py`), follow
one celebrity, who is not pushed: half as many followers are enough for that (celebrity_threshold).
S = 16, one server process with its workers.

- *First* and *last subscriber*: from before PublishActivity is called, by a process that does
  nothing else, until the event was read from the first and from the last of all streams. The
  median of a turn's activities.
- *Other publishes*: meanwhile, and in turns of 6 seconds (2) in which the celebrity publishes
  nothing, another process makes 100 small publishes a second, to others (`live_load.py`). p99 of
  milliseconds from when a call was due. The celebrity's activities follow each other for as long,
  three at least, so that there is always one on its way.
"""

import asyncio
import time
from statistics import median

from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_PULLED, PublishActivityRequest

from benchmarks import live_load, population
from benchmarks.figures import Figure, quantile
from benchmarks.live_events import opened
from benchmarks.live_helper import Helper, helper
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, stage
from benchmarks.turns import in_turns
from feedsvc.config import Limits

CELEBRITY = "celebrity"
#: Activities of the celebrity in a turn, at least.
POSTS = 3
#: Of the others, publishes a second.
RATE = 100


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """When it reached the first and the last, and what others' publishes took meanwhile."""
    count = scale.idle[-1]
    async with (
        stage(Limits(celebrity_threshold=count // 2)) as on,
        helper("benchmarks.live_subscribers", on.target) as subscribers,
        helper("benchmarks.live_load", on.target) as load,
    ):
        await live_load.populate(on.client, on.shards, report)
        await _prepare(on, count, report)
        await opened(subscribers, count, report)
        turns = Turns(on, subscribers, load, scale.live_seconds)
        values = await in_turns(
            {"beside": turns.beside, "quiet": turns.quiet},
            scale.few_rounds,
            report,
            what=f"a celebrity with {count:,} subscribers",
            warm_up=False,
        )
    name = f"a celebrity's activity to {count:,} subscribers"
    return [
        Figure(f"{name}, the first", "ms", "", tuple(turns.firsts)),
        Figure(f"{name}, the last", "ms", "", tuple(turns.lasts)),
        Figure(
            f"PublishActivity, {RATE}/s, p99 beside {name}",
            "ms",
            "the same while nothing is sent",
            values["beside"],
            values["quiet"],
            "<= 3",
        ),
    ]


async def _prepare(on: Stage, count: int, report: Progress) -> None:
    """Makes the followers, and sees that they pull."""
    await population.follow(
        on.client, [(user, CELEBRITY) for user in population.users(count)], report
    )
    await _publish(on, wait=True)
    await population.settled(on.client)


async def _publish(on: Stage, *, wait: bool = False) -> tuple[str, bool]:
    """Publishes something by the celebrity; its id, and whether it is pulled."""
    request = PublishActivityRequest(
        activity=population.activity(CELEBRITY), wait_for_delivery=wait
    )
    answer = await on.client.activities.PublishActivity(request)
    return answer.activity.id, answer.delivery.state == DELIVERY_STATE_PULLED


class Turns:
    """The turns, and milliseconds until the first and last had it, by turn."""

    def __init__(self, on: Stage, subscribers: Helper, load: Helper, seconds: float) -> None:
        self._on = on
        self._subscribers = subscribers
        self._load = load
        self._seconds = seconds
        self.firsts: list[float] = []
        self.lasts: list[float] = []

    async def quiet(self) -> float:
        """p99 of others' publishes."""
        await self._load.ask("begin", RATE)
        await asyncio.sleep(self._seconds)
        return quantile(await self._load.ask("end"), 0.99)

    async def beside(self) -> float:
        """The same while the celebrity publishes."""
        await self._subscribers.ask("count")
        firsts, lasts = list[float](), list[float]()
        await self._load.ask("begin", RATE)
        until = time.monotonic() + self._seconds
        while len(lasts) < POSTS or time.monotonic() < until:
            begun = time.monotonic()
            activity, pulled = await _publish(self._on)
            if not pulled:
                raise RuntimeError("the celebrity is pushed")
            first, last = await self._subscribers.ask("wait", activity)
            firsts.append(1000 * (first - begun))
            lasts.append(1000 * (last - begun))
        times = await self._load.ask("end")
        self.firsts.append(median(firsts))
        self.lasts.append(median(lasts))
        return quantile(times, 0.99)
