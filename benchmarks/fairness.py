"""Fairness: the latency of other calls while an author's activities go to a million followers.

The author's followers are those of `benchmarks.load.crowd`, and have warm feeds: 1,000,000 of them,
or 50,000 in a quick run. No entity is a celebrity (celebrity_threshold 0). S = 16. The other caller
is a process that makes 100 small publishes and 100 reads a second (`benchmarks.load.steady`). All
calls go to one server process with its two workers, and to one store.

- *Fan-out*: two activities are on their way at once, each with `wait_for_delivery`, and others
  follow them for as long as a turn lasts, 8 seconds (3 in a quick run); then the turn waits for the
  last deliveries. Followers a second over the whole turn, beside the other caller and alone.
- *Publishes and reads*: p99 of milliseconds from when a call was due, beside the fan-out and alone.
  Calls go on for as long as the fan-out does.
- *Slow scripts*: EVALSHA calls in the store's slow log, from 5 ms on, of all turns with fan-out and
  other calls. The slow log measures by the clock: it also counts the time in which the store waits
  for a processor.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_DELIVERED, PublishActivityRequest

from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import ALL_PUSHED, Stage, open_stage
from benchmarks.harness.turns import in_turns
from benchmarks.load import population, steady
from benchmarks.load.crowd import Crowd
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.core import scripts

AUTHOR = "celebrity"
#: Activities of the author that are on their way at once.
AT_ONCE = 2
#: Other calls of each kind a second.
RATE = 100
#: Most seconds that a delivery may take.
PATIENCE = 600.0
#: Milliseconds from which a script is slow.
SLOW_MS = 5
#: Slow scripts that are printed.
PRINTED = 10


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of the fan-out, of the calls beside it, and of the store."""
    async with open_stage(ALL_PUSHED) as stage:
        await steady.prepare_publishes_and_reads(stage.client, stage.shards, progress)
        crowd = Crowd(stage, scale.crowd)
        await crowd.prepare()
        await crowd.follow(AUTHOR, scale.crowd, progress)
        await crowd.warm(scale.crowd, progress)
        turns = Turns(stage, scale, progress)
        await stage.redis.config_set("slowlog-log-slower-than", -1)
        await stage.redis.config_set("slowlog-max-len", 10_000)
        await stage.redis.slowlog_reset()
        values = await in_turns(
            {"alone": turns.alone, "quiet": turns.quiet, "loaded": turns.loaded},
            scale.slow_rounds,
            progress,
            title=f"fairness beside {scale.crowd:,} followers",
            warm_up=False,
        )
        return [
            *steady.p99_figures(
                f", {RATE}/s, p99 beside a fan-out to {scale.crowd:,}",
                "the same without the fan-out",
                turns.beside,
                turns.undisturbed,
                "<= 2",
            ),
            Figure(
                f"fan-out to {scale.crowd:,} beside {RATE} publishes and {RATE} reads a second",
                "followers/s",
                "the same alone",
                values["loaded"],
                values["alone"],
                ">= 0.5",
            ),
            Figure(
                f"scripts of {SLOW_MS} ms and more beside a fan-out to {scale.crowd:,}",
                "scripts",
                "",
                (await turns.slow_scripts(),),
                target="<= 0 scripts",
                absolute=True,
            ),
        ]


class Turns:
    """The turns, and the times of the other calls in them, by turn."""

    def __init__(self, stage: Stage, scale: Scale, progress: Progress) -> None:
        self._stage = stage
        self._followers = scale.crowd
        self._seconds = scale.fairness_seconds
        self._progress = progress
        self._number = 0
        self.beside: list[steady.Times] = []
        self.undisturbed: list[steady.Times] = []

    async def alone(self) -> float:
        """Return the followers a second."""
        begun, delivered = time.perf_counter(), 0

        def until_end() -> Iterator[None]:
            while not delivered or time.perf_counter() - begun < self._seconds:
                yield

        async def deliver(_: None) -> None:
            nonlocal delivered
            await self._deliver()
            delivered += self._followers

        await in_lanes(until_end(), deliver, lanes=AT_ONCE)
        return delivered / (time.perf_counter() - begun)

    async def _deliver(self) -> None:
        self._number += 1
        request = PublishActivityRequest(
            activity=population.activity(AUTHOR, self._number), wait_for_delivery=True
        )
        publish = self._stage.client.activities.PublishActivity
        delivery = (await publish(request, timeout=PATIENCE)).delivery
        if (delivery.state, delivery.delivered_count) != (
            DELIVERY_STATE_DELIVERED,
            self._followers,
        ):
            raise RuntimeError(f"not delivered to {self._followers:,}: {delivery}")

    async def quiet(self) -> float:
        """Return the seconds of the turn. The figures come from the times of the calls."""
        async with steady.steady_load(self._stage.target, RATE, self.undisturbed):
            await asyncio.sleep(self._seconds)
        return self._seconds

    async def loaded(self) -> float:
        """Return the followers a second, beside the other calls."""
        redis = self._stage.redis
        async with steady.steady_load(self._stage.target, RATE, self.beside):
            await redis.config_set("slowlog-log-slower-than", SLOW_MS * 1000)
            rate = await self.alone()
            await redis.config_set("slowlog-log-slower-than", -1)
        return rate

    async def slow_scripts(self) -> int:
        """Return the number of slow scripts, and print the first of them."""
        entries: list[Any] = await self._stage.redis.slowlog_get(10_000)
        names = {script.sha.encode(): name for name, script in scripts.load(ALL_PUSHED).items()}
        slow = []
        for entry in entries:
            words: list[bytes] = entry["command"].split(b" ", 2)
            if words[0] == b"EVALSHA":
                name = names.get(words[1], "a script")
                slow.append(f"{name} {entry['duration'] / 1000:.1f} ms")
        for line in slow[:PRINTED]:
            self._progress.print_line(f"slow: {line}")
        return len(slow)
