"""A service to be broken: its store, a proxy before it, two servers, a worker, and their clocks."""

import asyncio
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import grpc.aio
from activityfeed import FeedClient
from activityfeed.client import OWN_CONNECTION
from redis.asyncio import Redis
from redis.exceptions import RedisError

from feedsvc.core import keys
from tests.faults.proxy import Proxy
from tests.harness.clock import Clock
from tests.harness.processes import (
    LOOK_SECONDS,
    START_SECONDS,
    Process,
    ProcessDied,
    feedsvc_command,
    find_free_port,
    store_command,
)

Mode = Literal["durable", "lost tail", "failover"]

#: Seconds between marks in the store, by which it is known what a loss has left.
MARK_SECONDS = 0.05
MARK = "faults:mark"
#: What a log says when something went wrong that nobody thought of.
ALARMS = ("Traceback", "a defect", "never retrieved")
#: gRPC's own, when a caller has gone.
EXCUSES = ("ExecuteBatchError",)
#: Lines of a log record that are quoted.
QUOTED = 40


def drawn_limits(chance: random.Random) -> dict[str, int]:
    """Settings of feedsvc under which little traffic makes everything happen all the time."""
    return {
        "shards": chance.choice([1, 2, 8]),
        "push_chunk": chance.choice([1, 3, 7]),
        "inline_audience": chance.choice([1, 4, 8]),
        "job_lease": 1,
        "job_tries": 100,
        "max_jobs": chance.choice([20, 10_000]),
        "celebrity_threshold": chance.choice([0, 18, 22]),
        "celebrity_lower_percent": chance.choice([60, 90, 95]),
        "feed_cap": chance.choice([30, 800]),
        "feed_slack": chance.choice([0, 50]),
    }


class Server:
    """A server process, and a client of it."""

    def __init__(self, process: Process, clock: Clock, port: int) -> None:
        self.process = process
        self.clock = clock
        self.client: FeedClient | None = None
        """None while it does not serve."""
        self.port = port
        self.kills = 0
        """How often it was killed, and not asked to stop."""
        self.stopping = False
        """Whether it has been asked to stop, and is there still."""
        self.channels: list[grpc.aio.Channel] = []

    async def up(self) -> None:
        """Starts it, again and again while its store is not there."""
        await started(self.process, "serving on")
        # Without the retries of a client of ours: the lanes have their own, and count them.
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=[OWN_CONNECTION])
        self.channels.append(channel)
        self.client = FeedClient(channel)

    def kill(self) -> None:
        self.kills += 1
        self.client = None
        self.process.kill()

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has. Raises ProcessDied if it ends badly."""
        self.stopping = True
        self.process.terminate()
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self.process.has_ended():
                if time.monotonic() > deadline:
                    self.kill()
                    text = f"{self.process.name} does not stop"
                    raise ProcessDied(f"{text}: {self.process.log_text()[-2000:]}")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.stopping = False
        self.client = None
        if self.process.status:
            text = f"{self.process.name} stops with status {self.process.status}"
            raise ProcessDied(f"{text}: {self.process.log_text()[-2000:]}")


class Store:
    """A store process, which is asked by its own socket and not through the proxy."""

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

    async def up(self, primary: "Store | None" = None) -> None:
        """Start it, as a replica if there is a primary, and wait until it answers."""
        more = ("--replicaof", "127.0.0.1", str(primary.port)) if primary else ()
        self.process.launch(*more)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                await self.redis.ping()
            except (RedisError, OSError, RuntimeError):  # the last one is uvloop's
                if time.monotonic() > deadline:
                    raise
                self.process.check()
                await asyncio.sleep(0.01)
            else:
                return

    async def promote(self) -> None:
        """Make it a primary, with what it has."""
        await self.redis.replicaof("NO", "ONE")

    async def demote(self, primary: "Store") -> None:
        """Make it a replica: from the answer on it takes no more writes."""
        await self.redis.replicaof("127.0.0.1", primary.port)

    async def has_all_of(self, primary: "Store") -> bool:
        """Whether it is a replica that gets each write of a primary, and has it in its file."""
        told, own = await primary.redis.info(), await self.redis.info()
        return bool(
            own.get("master_link_status") == "up"
            and own["master_replid"] == told["master_replid"]
            # What it was sent at first is in its file only then.
            and not own["aof_rewrite_in_progress"]
            and not own["aof_rewrite_scheduled"]
        )

    async def marked(self) -> float:
        """The last time that was noted here."""
        return float(await self.redis.get(MARK))


class Stage:
    """Everything that runs. Start and stop it with ``async with``, from the main thread."""

    def __init__(
        self,
        folder: Path,
        mode: Mode,
        chance: random.Random,
        limits: Mapping[str, int] | None = None,
        serving: Sequence[str] = (),
    ) -> None:
        """``serving`` is what servers are told beside the limits."""
        self.mode = mode
        self.limits = dict(limits or drawn_limits(chance))
        names = ["store", "standby"] if mode == "failover" else ["store"]
        fsync = "everysec" if mode == "lost tail" else "always"
        self.stores = [
            Store(folder, name, fsync, find_free_port() if mode == "failover" else 0)
            for name in names
        ]
        """The primary, and its replica if there is one."""
        self.proxy = Proxy(folder / "proxy.sock", self.primary.socket, chance)
        self._url = f"unix://{folder}/proxy.sock"
        told = [f"--{name.replace('_', '-')}={value}" for name, value in self.limits.items()]
        self.servers = []
        for number, workers in enumerate([0, chance.choice([0, 1])]):
            clock = Clock(folder / f"server{number}.clock")
            port = find_free_port()
            command = feedsvc_command(
                *("serve", f"--port={port}", f"--redis-url={self._url}", f"--workers={workers}"),
                *(*told, *serving),
            )
            log = folder / f"server{number}.log"
            process = Process(f"server {number}", command, log, clock.environment)
            self.servers.append(Server(process, clock, port))
        self.worker = Process(
            "worker",
            feedsvc_command("worker", f"--redis-url={self._url}", *told),
            folder / "worker.log",
            {},
        )
        self._read: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.store_up()
            for replica in self.stores[1:]:
                await replica.up(self.primary)
            await self.proxy.start()
            await asyncio.gather(*(server.up() for server in self.servers), self.worker_up())
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        for process in self.processes:
            process.kill()
        await self.proxy.stop()
        await asyncio.gather(*(store.redis.aclose() for store in self.stores))
        channels = [channel for server in self.servers for channel in server.channels]
        await asyncio.gather(*(channel.close() for channel in channels))

    @property
    def processes(self) -> list[Process]:
        stores = [store.process for store in self.stores]
        return [self.worker, *(server.process for server in self.servers), *stores]

    @property
    def primary(self) -> Store:
        """The store that the service is to use."""
        return self.stores[0]

    @property
    def store(self) -> Process:
        """The primary's process."""
        return self.primary.process

    @property
    def redis(self) -> "Redis":
        """A client of the primary, not through the proxy."""
        return self.primary.redis

    def lead_to_standby(self) -> None:
        """Have the replica be the primary for whoever connects from now on."""
        self.stores.reverse()
        self.proxy.store = self.primary.socket

    @property
    def serving(self) -> list[FeedClient]:
        return [server.client for server in self.servers if server.client is not None]

    async def store_up(self) -> None:
        """Starts the store and waits until it answers."""
        await self.primary.up()

    async def worker_up(self) -> None:
        await started(self.worker, "working")

    async def mark(self) -> None:
        """Notes the time in the store: what it forgets, it forgets from the last note on."""
        await self.redis.set(MARK, repr(time.monotonic()))

    async def expire_feeds(self, chance: random.Random) -> int:
        """Makes some feeds of a shard cold, warm ones and those that are being built."""
        tag = chance.choice(keys.tags(self.limits["shards"]))
        found = [name async for name in self.redis.scan_iter(match=f"{tag}f*", count=1000)]
        some = [name for name in found if chance.random() < 0.5]
        if some:
            await self.redis.delete(*some)
        return len(some)

    async def all_cold(self, users: Iterable[str]) -> None:
        """Makes all feeds of some users cold."""
        wanted = {user.encode() for user in users}
        found = [name async for name in self.redis.scan_iter(match="{*}f*", count=1000)]
        some = [name for name in found if name.partition(b":")[2] in wanted]
        if some:
            await self.redis.delete(*some)

    def alarms(self) -> list[str]:
        """What the logs have newly said that they should never say."""
        found = []
        for process in self.processes:
            text = process.log.read_text(errors="replace") if process.log.exists() else ""
            new = text[self._read.get(process.name, 0) :]
            self._read[process.name] = len(text)
            alarming: dict[str, str] = {}
            for record in re.split(r"^(?=\d{4}-\d\d-\d\d )", new, flags=re.MULTILINE):
                loud = any(alarm in record for alarm in ALARMS)
                if loud and not any(excuse in record for excuse in EXCUSES):
                    lines = record.splitlines()
                    alarming.setdefault(lines[-1], "\n".join(lines[-QUOTED:]))
            found += [f"the log of {process.name} says:\n{text}" for text in alarming.values()]
        return found


async def started(process: Process, says: str) -> str:
    """Starts a process until it says that it is ready; it may need its store for that."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        process.launch()
        try:
            return await process.wait_for_line(says)
        except ProcessDied:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
