"""Fairness: what others get while one account's activities go to a million followers.

The account's followers are those of `crowd.py`, and have warm feeds; 1,000,000 of them, or 50,000
in a quick run. Nobody has too many followers to be pushed to (celebrity_threshold 0). S = 16. The
others are a process that makes 100 small publishes and 100 reads a second (`steady.py`); here all
takes place on one server process with its two workers, and on one store.

- *Fan-out*: two activities are on their way at once, each with `wait_for_delivery`, and are
  followed by others for as long as a turn lasts, 8 seconds (3 in a quick run); then the last ones
  are waited for. Followers a second over the whole turn, while the others call and alone.
- *Publishes and reads*: p99 of milliseconds from when a call was due, while the account fans out
  and while it does not. Calls go on for just as long as the fan-out does.
- *Slow scripts*: EVALSHA calls in the store's slow log, from 5 ms on, of all turns in which both
  went on. It is a time by the clock: a store that has to wait for a processor is slow as well.
"""

import asyncio
import time
from typing import Any

from activityfeed.v1.activity_service_pb2 import DELIVERY_STATE_DELIVERED, PublishActivityRequest

from benchmarks import population, steady
from benchmarks.crowd import Crowd
from benchmarks.figures import Figure, quantile
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import ALL_PUSHED, Stage, stage
from benchmarks.turns import in_turns
from feedsvc.core import scripts

AUTHOR = "celebrity"
#: Activities of the account that are on their way at once.
AT_ONCE = 2
#: Of the others, calls of each kind a second.
RATE = 100
#: Seconds that a delivery may take.
PATIENCE = 600.0
SLOW_MS = 5
#: Slow scripts that are told of one by one.
TOLD = 10


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of the fan-out, of those beside it, and of the store."""
    async with stage(ALL_PUSHED) as on:
        await steady.populate(on.client, on.shards, report)
        crowd = Crowd(on, scale.crowd)
        await crowd.prepare()
        await crowd.follow(AUTHOR, scale.crowd, report)
        await crowd.warm(scale.crowd, report)
        turns = Turns(on, scale, report)
        await on.redis.config_set("slowlog-log-slower-than", -1)
        await on.redis.config_set("slowlog-max-len", 10_000)
        await on.redis.slowlog_reset()
        values = await in_turns(
            {"alone": turns.alone, "quiet": turns.quiet, "loaded": turns.loaded},
            scale.few_rounds,
            report,
            what=f"fairness beside {scale.crowd:,} followers",
            warm_up=False,
        )
        return [
            *(
                Figure(
                    f"{kind}, {RATE}/s, p99 beside a fan-out to {scale.crowd:,}",
                    "ms",
                    "the same without the fan-out",
                    tuple(quantile(times[kind], 0.99) for times in turns.beside),
                    tuple(quantile(times[kind], 0.99) for times in turns.undisturbed),
                    "<= 2",
                )
                for kind in steady.KINDS
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
    """The turns, and the times of the calls in them: of each kind, by turn."""

    def __init__(self, on: Stage, scale: Scale, report: Progress) -> None:
        self._on = on
        self._followers = scale.crowd
        self._seconds = scale.fair_seconds
        self._report = report
        self._number = 0
        self.beside: list[dict[str, list[float]]] = []
        self.undisturbed: list[dict[str, list[float]]] = []

    async def alone(self) -> float:
        """Followers a second."""
        begun, delivered = time.perf_counter(), 0

        async def lane() -> None:
            nonlocal delivered
            while not delivered or time.perf_counter() - begun < self._seconds:
                await self._deliver()
                delivered += self._followers

        async with asyncio.TaskGroup() as lanes:
            for _ in range(AT_ONCE):
                lanes.create_task(lane())
        return delivered / (time.perf_counter() - begun)

    async def _deliver(self) -> None:
        self._number += 1
        request = PublishActivityRequest(
            activity=population.activity(AUTHOR, self._number), wait_for_delivery=True
        )
        publish = self._on.client.activities.PublishActivity
        delivery = (await publish(request, timeout=PATIENCE)).delivery
        if (delivery.state, delivery.delivered_count) != (
            DELIVERY_STATE_DELIVERED,
            self._followers,
        ):
            raise RuntimeError(f"not delivered to {self._followers:,}: {delivery}")

    async def quiet(self) -> float:
        """Seconds, which say nothing: the calls' times do."""
        async with steady.beside(self._on.target, RATE, self.undisturbed):
            await asyncio.sleep(self._seconds)
        return self._seconds

    async def loaded(self) -> float:
        """Followers a second."""
        redis = self._on.redis
        async with steady.beside(self._on.target, RATE, self.beside):
            await redis.config_set("slowlog-log-slower-than", SLOW_MS * 1000)
            rate = await self.alone()
            await redis.config_set("slowlog-log-slower-than", -1)
        return rate

    async def slow_scripts(self) -> int:
        """How many there were; tells of some."""
        entries: list[Any] = await self._on.redis.slowlog_get(10_000)
        names = {one.sha.encode(): name for name, one in scripts.load(ALL_PUSHED).items()}
        found = []
        for entry in entries:
            words: list[bytes] = entry["command"].split(b" ", 2)
            if words[0] == b"EVALSHA":
                name = names.get(words[1], "a script")
                found.append(f"{name} {entry['duration'] / 1000:.1f} ms")
        for one in found[:TOLD]:
            self._report.tell(f"slow: {one}")
        return len(found)
