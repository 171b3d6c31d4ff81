"""A service whose streams are to be broken: short leases, small limits, and proxies before it."""

import random
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.stage import Stage
from tests.streams.subscribers import Front

#: A lease of so many seconds outlives every fault; so many events are never trimmed.
LONG_LEASE, LONG_LOG = 60, 1_000


def drawn_limits(chance: random.Random) -> dict[str, int]:
    """Settings under which few followers make celebrities, and workers have something to do."""
    return {
        "shards": chance.choice([1, 2, 8]),
        "push_chunk": chance.choice([1, 3, 250]),
        "inline_audience": chance.choice([1, 4, 1_000]),
        "job_lease": 1,
        "job_tries": 100,
        "celebrity_threshold": chance.choice([0, 6, 8]),
        "celebrity_lower_percent": chance.choice([60, 90]),
        "feed_cap": chance.choice([30, 800]),
        "feed_slack": chance.choice([0, 50]),
        "log_lease": chance.choice([1, 2, LONG_LEASE, LONG_LEASE]),
        "log_cap": chance.choice([30, LONG_LOG, LONG_LOG]),
    }


def drawn_serving(chance: random.Random, limits: dict[str, int]) -> list[str]:
    """What servers are told beside the limits."""
    checkpoints = [0.1, 0.3, 3.0] if limits["log_lease"] == LONG_LEASE else [0.1, 0.3]
    settings = {
        "checkpoint-seconds": chance.choice(checkpoints),
        "stream-seconds": chance.choice([1, 3, 3_600]),
        "write-seconds": chance.choice([0.5, 30]),
        "drain-seconds": chance.choice([1, 3]),
    }
    return [f"--{name}={value}" for name, value in settings.items()]


class StreamStage(Stage):
    """The same with a proxy before each server, which subscribers come through."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        limits = drawn_limits(chance)
        self.serving_options: Sequence[str] = drawn_serving(chance, limits)
        super().__init__(folder, "durable", chance, limits, self.serving_options)
        self.fronts = [
            Front(folder / f"front{number}.sock", server, chance)
            for number, server in enumerate(self.servers)
        ]

    @property
    def fragile(self) -> bool:
        """Whether logs may be lost although nobody breaks them."""
        return self.limits["log_lease"] < LONG_LEASE or self.limits["log_cap"] < LONG_LOG

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for front in self.fronts:
            await front.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for front in self.fronts:
            await front.stop()
        await super().__aexit__(kind, error, trace)
