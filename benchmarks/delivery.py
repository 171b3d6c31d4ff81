"""Delivery: how fast an activity reaches its followers, whether they are a thousand or a million.

One author of each size; the followers of the smaller ones are some of the largest one's. Nobody has
too many followers to be pushed to (celebrity_threshold 0). S = 16. Feeds are all warm, or each
tenth is; how a million of them come about stands in `crowd.py`. They hold 50 ids, anew before each
turn of a size, but for the largest, whose feeds grow by one a turn.

- *Rate*: followers a second, from sending PublishActivity until the activity is delivered, which
  for up to 1,000 followers is before it answers; then a second call with the same request id and
  `wait_for_delivery` waits for the workers. One activity after the other: a turn is 200,000
  followers' worth of them (20,000 in a quick run), or one. In the end the figures of each delivery
  must be exact. Rates are to be flat: that of the slower end, fewest or most followers, is set
  against that of the other.
- *Until answered*: the median of the time in which the first of the two calls is answered, while
  nothing else is on its way: a stored job, and about 1,000 followers at the most.
- *Store*: the CPU seconds that its process used in a turn, for a million followers.
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

from benchmarks import population
from benchmarks.crowd import Crowd
from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import ALL_PUSHED, Stage, cpu_seconds, stage
from benchmarks.turns import in_turns

#: One in so many feeds is warm, when few are.
FEW_WARM = 10
#: Seconds that a delivery may take.
PATIENCE = 600.0


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of each number of followers, with all feeds warm and with few."""
    async with stage(ALL_PUSHED) as on:
        crowd = Crowd(on, max(scale.audiences))
        await crowd.prepare()
        for size in scale.audiences:
            await crowd.follow(_author(size), size, report)
        await crowd.warm(len(crowd.users), report)
        figures = await Deliveries(on, crowd, 1).measure(scale, report)
        await crowd.chill(report, but=FEW_WARM)
        return figures + await Deliveries(on, crowd, FEW_WARM).measure(scale, report)


def _author(size: int) -> str:
    return f"author:{size}"


class Deliveries:
    """Turns of publishes, and what was measured beside the rates."""

    def __init__(self, on: Stage, crowd: Crowd, each: int) -> None:
        """``each``: one in so many feeds is warm."""
        self._on = on
        self._crowd = crowd
        self._each = each
        self._answers: dict[int, list[float]] = {}
        self._cpu: dict[int, list[float]] = {}

    async def measure(self, scale: Scale, report: Progress) -> list[Figure]:
        warm = "all feeds warm" if self._each == 1 else f"1 of {self._each} feeds warm"
        values = await in_turns(
            {str(size): partial(self._turn, size, scale) for size in scale.audiences},
            scale.few_rounds,
            report,
            what=f"delivery, {warm}",
        )
        figures = []
        for size in scale.audiences:
            name = f"delivery to {size:,}, {warm}"
            figures.append(Figure(name, "followers/s", "", values[str(size)]))
            # The first of each is that of the turn that warms up.
            answers = tuple(self._answers[size][1:])
            figures.append(Figure(f"{name}, publish until answered", "ms", "", answers))
            if cpu := tuple(self._cpu[size][1:]):
                figures.append(Figure(f"{name}, store, a million", "CPU s", "", cpu))
        few, many = min(scale.audiences), max(scale.audiences)
        ends = list(zip(values[str(few)], values[str(many)], strict=True))
        slow, fast = tuple(map(min, ends)), tuple(map(max, ends))
        figures.append(
            Figure(
                f"delivery, {warm}: the slower of {few:,} and {many:,} followers",
                "followers/s",
                "the faster",
                slow,
                fast,
                ">= 0.67",
            )
        )
        return figures

    async def _turn(self, size: int, scale: Scale) -> float:
        """Followers a second."""
        if size < max(scale.audiences):
            await self._crowd.warm(size, each=self._each)
        publishes = max(1, scale.deliveries // size)
        cpu, begun = cpu_seconds(self._on.store_pid), time.perf_counter()
        answers = [await self._publish(size, number) for number in range(publishes)]
        seconds = time.perf_counter() - begun
        cpu_after, reached = cpu_seconds(self._on.store_pid), publishes * size
        self._answers.setdefault(size, []).append(median(answers))
        used = self._cpu.setdefault(size, [])
        if cpu is not None and cpu_after is not None:
            used.append((cpu_after - cpu) / reached * 1e6)
        return reached / seconds

    async def _publish(self, size: int, number: int) -> float:
        """Publishes, and waits until it is delivered; the milliseconds until the first answer."""
        request = PublishActivityRequest(
            activity=population.activity(_author(size), number), request_id=uuid4().hex
        )
        publish = self._on.client.activities.PublishActivity
        begun = time.perf_counter()
        delivery = (await publish(request)).delivery
        answered = time.perf_counter() - begun
        if delivery.state == DELIVERY_STATE_QUEUED:
            request.wait_for_delivery = True
            delivery = (await publish(request, timeout=PATIENCE)).delivery
        warm = -(-size // self._each)
        found = (delivery.state, delivery.delivered_count, delivery.skipped_cold_count)
        if found != (DELIVERY_STATE_DELIVERED, warm, size - warm):
            raise RuntimeError(f"delivery to {size:,}, of which {warm:,} are warm: {delivery}")
        return 1000 * answered
