"""A whole service to break: a store, a proxy before it, two servers, a worker, and their clocks."""

import asyncio
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from activityfeed import FeedClient
from redis.asyncio import Redis

from feedsvc.core import keys
from tests.harness.clock import Clock
from tests.harness.processes import Process, feedsvc_command, find_free_port
from tests.harness.proxy import RandomProxy
from tests.harness.server import Server, start_until_ready
from tests.harness.store import Store

#: How the store keeps what it acknowledged: all of it, all but its last writes, or all that its
#: replica has.
Mode = Literal["durable", "lost tail", "failover"]

#: Texts of log records that no fault excuses.
ALARMS = ("Traceback", "a defect", "never retrieved")
#: Texts of records that gRPC itself logs when a caller has gone.
EXCUSES = ("ExecuteBatchError",)
#: Last lines of an alarming log record that a complaint quotes.
QUOTED_LINES = 40


class Stage:
    """All processes of a service. Start and stop it with ``async with``, from the main thread."""

    def __init__(
        self,
        folder: Path,
        mode: Mode,
        chance: random.Random,
        limits: Mapping[str, int],
        server_options: Sequence[str] = (),
    ) -> None:
        """Prepare the processes; all get the limits, and servers get the other options too."""
        self.mode = mode
        self.limits = dict(limits)
        self.server_options = server_options
        names = ["store", "standby"] if mode == "failover" else ["store"]
        fsync = "everysec" if mode == "lost tail" else "always"
        self.stores = [
            Store(folder, name, fsync, find_free_port() if mode == "failover" else 0)
            for name in names
        ]
        """The primary, and its replica if there is one."""
        self._proxy_socket = folder / "proxy.sock"
        self.proxy = RandomProxy(self.primary.socket, chance)
        url = f"--redis-url=unix://{self._proxy_socket}"
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.limits.items()]
        self.servers = []
        for number, workers in enumerate([0, chance.choice([0, 1])]):
            clock = Clock(folder / f"server{number}.clock")
            port = find_free_port()
            command = feedsvc_command(
                *("serve", f"--port={port}", url, f"--workers={workers}"),
                *(*options, *server_options),
            )
            log = folder / f"server{number}.log"
            process = Process(f"server {number}", command, log, clock.environment)
            self.servers.append(Server(process, clock, port))
        self.worker = Process(
            "worker", feedsvc_command("worker", url, *options), folder / "worker.log", {}
        )
        self._read_sizes: dict[str, int] = {}
        """Characters of each process's log that `new_alarms` has read."""

    async def __aenter__(self) -> Self:
        try:
            await self.start_store()
            for replica in self.stores[1:]:
                await replica.start(self.primary)
            await self.start_proxy()
            await asyncio.gather(*(server.start() for server in self.servers), self.start_worker())
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Kill all processes and close all clients."""
        for process in self.processes:
            process.kill()
        await self.proxy.stop()
        await asyncio.gather(*(store.redis.aclose() for store in self.stores))
        channels = [channel for server in self.servers for channel in server.channels]
        await asyncio.gather(*(channel.close() for channel in channels))

    @property
    def processes(self) -> list[Process]:
        """All processes of the service."""
        stores = [store.process for store in self.stores]
        return [self.worker, *(server.process for server in self.servers), *stores]

    @property
    def primary(self) -> Store:
        """The store that the service is to use."""
        return self.stores[0]

    @property
    def redis(self) -> Redis:
        """A client of the primary, not through the proxy."""
        return self.primary.redis

    @property
    def clients(self) -> list[FeedClient]:
        """The clients of all servers that serve now."""
        return [server.client for server in self.servers if server.client is not None]

    def switch_to_standby(self) -> None:
        """Make the replica the primary for all connections that are opened from now on."""
        self.stores.reverse()
        self.proxy.target = self.primary.socket

    async def start_store(self) -> None:
        await self.primary.start()

    async def start_proxy(self) -> None:
        await self.proxy.listen_on_socket(self._proxy_socket)

    async def start_worker(self) -> None:
        await start_until_ready(self.worker, "working")

    async def expire_feeds(self, chance: random.Random) -> None:
        """Make feeds of a shard cold at random, warm ones and those that are being built."""
        tag = chance.choice(keys.tags(self.limits["shards"]))
        feeds = [key async for key in self.redis.scan_iter(match=f"{tag}f*", count=1000)]
        await self._delete([key for key in feeds if chance.random() < 0.5])

    async def make_cold(self, users: Iterable[str]) -> None:
        """Make all feeds of users cold."""
        encoded_users = {user.encode() for user in users}
        feeds = [key async for key in self.redis.scan_iter(match="{*}f*", count=1000)]
        await self._delete([key for key in feeds if key.partition(b":")[2] in encoded_users])

    async def _delete(self, stored_keys: Sequence[bytes]) -> None:
        if stored_keys:
            await self.redis.delete(*stored_keys)

    def new_alarms(self) -> list[str]:
        """Return the records that no log should hold, of those written since the last call."""
        alarms = []
        for process in self.processes:
            text = process.log.read_text(errors="replace") if process.log.exists() else ""
            new_text = text[self._read_sizes.get(process.name, 0) :]
            self._read_sizes[process.name] = len(text)
            by_last_line: dict[str, str] = {}
            for record in re.split(r"^(?=\d{4}-\d\d-\d\d )", new_text, flags=re.MULTILINE):
                is_alarming = any(alarm in record for alarm in ALARMS)
                if is_alarming and not any(excuse in record for excuse in EXCUSES):
                    lines = record.splitlines()
                    by_last_line.setdefault(lines[-1], "\n".join(lines[-QUOTED_LINES:]))
            alarms += [
                f"the log of {process.name} says:\n{record}" for record in by_last_line.values()
            ]
        return alarms
