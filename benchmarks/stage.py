"""Where it is measured: a store, a server on it, each in a process of its own, and clients here.

The store is the embedded one, without an append-only file, so that no disk is measured. It is
reached through a unix socket, the server through loopback. Alternatives use the same store, and
uvloop as the server does.
"""

import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activityfeed import FeedClient
from redis.asyncio import Redis

from feedsvc.config import Config, Limits
from feedsvc.core import ids, keys
from feedsvc.embedded import EmbeddedStore

#: Nobody has too many followers to be pushed to.
ALL_PUSHED = Limits(celebrity_threshold=0)
WORKERS = Config().workers


@dataclass(frozen=True, slots=True)
class Stage:
    """All that a scenario plays on."""

    redis: Any
    """To the store, as the server connects to it: redis-py's asyncio client with hiredis, RESP2.
    Its types do not know that the answers are bytes."""
    url: str
    """The store's."""
    target: str
    """``host:port`` of the server."""
    client: FeedClient
    """To the server. Sends no request ids: records of requests would be measured too."""
    shards: int
    store_pid: int
    server_pid: int

    def tag(self, entity: str) -> str:
        """The hash tag of an entity's keys."""
        return keys.tags(self.shards)[ids.shard_for(entity, self.shards)]

    def feed(self, user: str) -> str:
        """The key of a user's warm feed."""
        return keys.feed(self.tag(user), user)


@asynccontextmanager
async def stage(limits: Limits | None = None, *, workers: int = WORKERS) -> AsyncIterator[Stage]:
    """An empty store and a server, which are as by default but for what is given."""
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="feedsvc-bench-") as folder:
        async with (
            EmbeddedStore(Path(folder), durable=False) as store,
            serving(store.url, limits, workers=workers) as (server_pid, port),
            FeedClient.connect(f"127.0.0.1:{port}", timeout=60, request_ids=False) as client,
            Redis.from_url(store.url, protocol=2) as redis,
        ):
            target = f"127.0.0.1:{port}"
            yield Stage(redis, store.url, target, client, limits.shards, store.pid, server_pid)


def serving(
    url: str, limits: Limits, *, workers: int = WORKERS
) -> AbstractAsyncContextManager[tuple[int, int]]:
    """A server on a store; its process id, and its port."""
    settings = {"limits": dataclasses.asdict(limits), "workers": workers}
    return process("benchmarks.server", url, json.dumps(settings))


@asynccontextmanager
async def process(module: str, *arguments: str) -> AsyncIterator[tuple[int, int]]:
    """Runs a module that serves until its standard input ends; its process id, and its port."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C on the terminal is for this process, which then ends the others.
        start_new_session=True,
    )
    asked, answers = running.stdin, running.stdout
    if asked is None or answers is None:
        raise RuntimeError("pipes were asked for")
    try:
        port = await answers.readline()
        if not port:
            raise RuntimeError(f"{module} did not start")
        yield running.pid, int(port)
    finally:
        asked.close()
        await running.wait()


def cpu_seconds(pid: int) -> float | None:
    """What a process has used of all processors; None where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    # The name, in parentheses, may hold anything. After it the state is field 3.
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """What a process has of the memory; None where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except FileNotFoundError:
        return None
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
