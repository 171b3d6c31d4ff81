"""An activity of a celebrity whom all subscribers follow.

10,000 users (1,000 in a quick run), each with a stream of its own (`benchmarks.load.subscribers`),
follow one celebrity, whose activities they pull: the threshold is half as many followers
(celebrity_threshold). S = 16, one server process with its workers.

- *First* and *last subscriber*: from before PublishActivity is called, by a process that does
  nothing else, until the event was read from the first and from the last of all streams. The median
  of a turn's activities.
- *Other publishes*: meanwhile, and in turns of 6 seconds (2) in which the celebrity publishes
  nothing, another process makes 100 small publishes a second, to other followers
  (`benchmarks.load.steady`). p99 of milliseconds from when a call was due. The celebrity's
  activities, three at least, follow each other until the turn ends, so that one is always on its
  way.
"""

import asyncio
from statistics import median

from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_PULLED, PublishActivityRequest

from benchmarks.harness.figures import Figure, quantile
from benchmarks.harness.helper import Helper, open_helper
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.live.events import open_streams
from benchmarks.load import population, steady, subscribers
from feedsvc.cli.load_test.clock import clock
from feedsvc.config import Limits

CELEBRITY = "celebrity"
#: Least number of the celebrity's activities in a turn.
ACTIVITIES = 3
#: Other publishes a second, and most of them in flight.
RATE, MAX_IN_FLIGHT = 100, 500


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return when an activity reached the first and last stream, and what publishes took."""
    count = scale.idle_subscribers[-1]
    async with (
        open_stage(Limits(celebrity_threshold=count // 2)) as stage,
        open_helper(subscribers.run, stage.target) as streams,
        open_helper(steady.run, stage.target) as load,
    ):
        await steady.prepare_publishes(stage.client, stage.shards, progress)
        await _prepare(stage, count, progress)
        await open_streams(streams, count, progress)
        turns = Turns(stage, streams, load, scale.live_seconds)
        values = await in_turns(
            {"beside": turns.beside, "quiet": turns.quiet},
            scale.slow_rounds,
            progress,
            title=f"a celebrity with {count:,} subscribers",
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


async def _prepare(stage: Stage, count: int, progress: Progress) -> None:
    """Make the followers, and wait until they pull."""
    edges = [(user, CELEBRITY) for user in population.users(count)]
    await population.follow(stage.client, edges, progress)
    await _publish(stage, wait=True)
    await population.all_delivered(stage.client)


async def _publish(stage: Stage, *, wait: bool = False) -> tuple[str, bool]:
    """Publish an activity of the celebrity. Return its id, and whether followers pull it."""
    request = PublishActivityRequest(
        activity=population.activity(CELEBRITY), wait_for_delivery=wait
    )
    answer = await stage.client.activities.PublishActivity(request)
    return answer.activity.id, answer.delivery.state == DELIVERY_STATE_PULLED


class Turns:
    """The turns, and when an activity reached the first and the last stream in them."""

    def __init__(self, stage: Stage, streams: Helper, load: Helper, seconds: float) -> None:
        self._stage = stage
        self._streams = streams
        self._load = load
        self._seconds = seconds
        self.firsts: list[float] = []
        """Milliseconds until the first stream had an activity, by turn."""
        self.lasts: list[float] = []
        """Milliseconds until the last stream had an activity, by turn."""

    async def quiet(self) -> float:
        """Return the p99 of the other publishes."""
        await self._begin_load()
        await asyncio.sleep(self._seconds)
        return await self._end_load()

    async def beside(self) -> float:
        """Return the p99 of the other publishes while the celebrity publishes."""
        await self._streams.ask("count")
        firsts, lasts = list[float](), list[float]()
        await self._begin_load()
        until = clock() + self._seconds
        while len(lasts) < ACTIVITIES or clock() < until:
            begun = clock()
            activity_id, is_pulled = await _publish(self._stage)
            if not is_pulled:
                raise RuntimeError("the celebrity is pushed")
            first, last = await self._streams.ask("wait", activity_id)
            firsts.append(1000 * (first - begun))
            lasts.append(1000 * (last - begun))
        p99 = await self._end_load()
        self.firsts.append(median(firsts))
        self.lasts.append(median(lasts))
        return p99

    async def _begin_load(self) -> None:
        await self._load.ask("begin", [steady.PUBLISH], RATE, MAX_IN_FLIGHT)

    async def _end_load(self) -> float:
        times: steady.Times = await self._load.ask("end")
        return quantile(times[steady.PUBLISH], 0.99)
