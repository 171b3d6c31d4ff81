"""Delivery: how fast an activity reaches its followers, whether they are a thousand or a million.

There is an author of each size; the followers of the smaller authors are among those of the
largest. No entity is a celebrity (celebrity_threshold 0). S = 16. Either all feeds are warm, or
every tenth feed; `benchmarks.load.crowd` makes a million of them. Feeds hold 50 ids, and are
written anew before each turn of a size, except for the largest, whose feeds grow by one id a turn.

- *Rate*: followers a second, from sending PublishActivity until the activity is delivered. For up
  to 1,000 followers that is before the call answers; for more, a second call with the same request
  id and `wait_for_delivery` waits for the workers. One activity follows the other: a turn has as
  many as 200,000 followers take (20,000 in a quick run), or one. In the end the counts of each
  delivery must be exact. Rates should not depend on the audience: the rate of the slower end,
  fewest or most followers, is set against that of the faster end.
- *Until answered*: the median of the time in which the first of the two calls is answered, while
  no other activity is on its way. By then the job is stored, and about 1,000 followers at the most
  are reached.
- *Store*: the CPU seconds that the store's process used in a turn, for a million followers.
"""

import time
from functools import partial
from statistics import median
from uuid import uuid4

from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_QUEUED,
    PublishActivityRequest,
)

from benchmarks.harness.figures import Figure
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import ALL_PUSHED, Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population
from benchmarks.load.crowd import Crowd

#: With few warm feeds: every tenth.
FEW_WARM = 10
#: Most seconds that a delivery may take.
PATIENCE = 600.0


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of each number of followers, with all feeds warm and with few."""
    async with open_stage(ALL_PUSHED) as stage:
        crowd = Crowd(stage, max(scale.audiences))
        await crowd.prepare()
        for size in scale.audiences:
            await crowd.follow(_author(size), size, progress)
        await crowd.warm(len(crowd.users), progress)
        figures = await Deliveries(stage, crowd, 1).measure(scale, progress)
        await crowd.chill(progress, step=FEW_WARM)
        return figures + await Deliveries(stage, crowd, FEW_WARM).measure(scale, progress)


def _author(size: int) -> str:
    return f"author:{size}"


class Deliveries:
    """Turns of publishes, and what they measure beside the rates."""

    def __init__(self, stage: Stage, crowd: Crowd, step: int) -> None:
        """Every ``step``-th feed is warm."""
        self._stage = stage
        self._crowd = crowd
        self._step = step
        self._answers: dict[int, list[float]] = {}
        self._cpu: dict[int, list[float]] = {}

    async def measure(self, scale: Scale, progress: Progress) -> list[Figure]:
        warm = "all feeds warm" if self._step == 1 else f"1 of {self._step} feeds warm"
        values = await in_turns(
            {str(size): partial(self._turn, size, scale) for size in scale.audiences},
            scale.slow_rounds,
            progress,
            title=f"delivery, {warm}",
        )
        figures = []
        for size in scale.audiences:
            name = f"delivery to {size:,}, {warm}"
            figures.append(Figure(name, "followers/s", "", values[str(size)]))
            # The first value of each list is that of the warm-up.
            answers = tuple(self._answers[size][1:])
            figures.append(Figure(f"{name}, publish until answered", "ms", "", answers))
            if cpu := tuple(self._cpu[size][1:]):
                figures.append(Figure(f"{name}, store, a million", "CPU s", "", cpu))
        fewest, greatest = min(scale.audiences), max(scale.audiences)
        ends = list(zip(values[str(fewest)], values[str(greatest)], strict=True))
        slow, fast = tuple(map(min, ends)), tuple(map(max, ends))
        figures.append(
            Figure(
                f"delivery, {warm}: the slower of {fewest:,} and {greatest:,} followers",
                "followers/s",
                "the faster",
                slow,
                fast,
                ">= 0.67",
            )
        )
        return figures

    async def _turn(self, size: int, scale: Scale) -> float:
        """Return the followers a second."""
        if size < max(scale.audiences):
            await self._crowd.warm(size, step=self._step)
        publishes = max(1, scale.deliveries // size)
        cpu, begun = CpuMeter({"store": self._stage.store_pid}), time.perf_counter()
        answers = [await self._publish(size, number) for number in range(publishes)]
        seconds = time.perf_counter() - begun
        used, reached = cpu.used(), publishes * size
        self._answers.setdefault(size, []).append(median(answers))
        self._cpu.setdefault(size, []).extend(
            store_seconds / reached * 1e6 for store_seconds in used.values()
        )
        return reached / seconds

    async def _publish(self, size: int, number: int) -> float:
        """Publish, wait for the delivery, and return the milliseconds until the first answer."""
        request = PublishActivityRequest(
            activity=population.activity(_author(size), number), request_id=uuid4().hex
        )
        publish = self._stage.client.activities.PublishActivity
        begun = time.perf_counter()
        delivery = (await publish(request)).delivery
        answered = time.perf_counter() - begun
        if delivery.state == DELIVERY_STATE_QUEUED:
            request.wait_for_delivery = True
            delivery = (await publish(request, timeout=PATIENCE)).delivery
        warm = -(-size // self._step)
        counts = (delivery.state, delivery.delivered_count, delivery.skipped_cold_count)
        if counts != (DELIVERY_STATE_DELIVERED, warm, size - warm):
            raise RuntimeError(f"delivery to {size:,}, of which {warm:,} are warm: {delivery}")
        return 1000 * answered
