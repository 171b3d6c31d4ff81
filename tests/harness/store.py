"""A store process that a run kills, promotes and demotes."""

import asyncio
import time
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.harness.clock import Clock
from tests.harness.processes import START_SECONDS, Process, store_command

#: The key under which the harness notes the time, to learn how much of the end a loss has taken.
MARK_KEY = "faults:mark"


class Store:
    """A store process and a client of it, which does not go through the proxy."""

    def __init__(self, folder: Path, name: str, fsync: str, port: int) -> None:
        self.files = folder / name
        self.files.mkdir()
        self.socket = folder / f"{name}.sock"
        self.port = port
        self.clock = Clock(folder / f"{name}.clock")
        self.process = Process(
            name,
            store_command(self.files, self.socket, fsync, port),
            folder / f"{name}.log",
            self.clock.environment,
        )
        self.redis = Redis.from_url(f"unix://{self.socket}", protocol=2)

    async def start(self, primary: "Store | None" = None) -> None:
        """Start the store, as a replica if a primary is given, and wait until it answers."""
        replica = ("--replicaof", "127.0.0.1", str(primary.port)) if primary else ()
        self.process.launch(*replica)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                await self.redis.ping()
            except (RedisError, OSError, RuntimeError):  # uvloop raises RuntimeError
                if time.monotonic() > deadline:
                    raise
                self.process.check()
                await asyncio.sleep(0.01)
            else:
                return

    async def promote(self) -> None:
        """Make the store a primary, with the data that it has."""
        await self.redis.replicaof("NO", "ONE")

    async def demote(self, primary: "Store") -> None:
        """Make the store a replica: from the answer on it takes no more writes."""
        await self.redis.replicaof("127.0.0.1", primary.port)

    async def holds_all_of(self, primary: "Store") -> bool:
        """Return whether the store is a replica that gets each write of a primary into its file."""
        primary_info, info = await primary.redis.info(), await self.redis.info()
        return bool(
            info.get("master_link_status") == "up"
            and info["master_replid"] == primary_info["master_replid"]
            # The data of the first synchronisation is in the file only after the rewrite.
            and not info["aof_rewrite_in_progress"]
            and not info["aof_rewrite_scheduled"]
        )

    async def write_mark(self) -> None:
        """Note the time. After a loss, all writes before the last mark are still there."""
        await self.redis.set(MARK_KEY, repr(time.monotonic()))

    async def read_mark(self) -> float:
        """Return the last time that is noted in the store."""
        return float(await self.redis.get(MARK_KEY))

    def growing_files(self) -> list[Path]:
        """Return the append-only files to which the store still writes."""
        return list(self.files.glob("appendonlydir/*.incr.aof"))
