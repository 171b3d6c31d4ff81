"""A service whose streams are to be broken: short leases, small limits, and proxies before it."""

import random
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.proxy import RandomProxy
from tests.harness.server import Server
from tests.harness.stage import Stage

#: A log lease of this many seconds outlives every fault, and a log never trims this many entries.
LONG_LEASE, LONG_LOG = 60, 1_000


def random_limits(chance: random.Random) -> dict[str, int]:
    """Return settings under which few followers make celebrities, and workers have jobs."""
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


def random_server_options(chance: random.Random, limits: dict[str, int]) -> list[str]:
    """Return the options that servers get beside the limits."""
    checkpoints = [0.1, 0.3, 3.0] if limits["log_lease"] == LONG_LEASE else [0.1, 0.3]
    settings = {
        "checkpoint-seconds": chance.choice(checkpoints),
        "stream-seconds": chance.choice([1, 3, 3_600]),
        "write-seconds": chance.choice([0.5, 30]),
        "drain-seconds": chance.choice([1, 3]),
    }
    return [f"--{name}={value}" for name, value in settings.items()]


class Front(RandomProxy):
    """A proxy between subscribers and a server."""

    def __init__(self, socket: Path, server: Server, chance: random.Random) -> None:
        super().__init__(server.port, chance)
        self._socket = socket
        self._server = server

    @property
    def name(self) -> str:
        """The name of the server."""
        return self._server.process.name

    @property
    def address(self) -> str:
        """The address to which subscribers connect."""
        return f"unix:{self._socket}"

    async def start(self) -> None:
        await self.listen_on_socket(self._socket)


class StreamStage(Stage):
    """A stage with a proxy before each server, through which subscribers connect."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        limits = random_limits(chance)
        options = random_server_options(chance, limits)
        super().__init__(folder, "durable", chance, limits, options)
        self.fronts = [
            Front(folder / f"front{number}.sock", server, chance)
            for number, server in enumerate(self.servers)
        ]

    @property
    def may_lose_logs(self) -> bool:
        """True if logs are so short, or leases so brief, that any log may be lost."""
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
