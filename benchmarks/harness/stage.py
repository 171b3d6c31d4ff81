"""The store and the server that a scenario measures, and clients of both.

Store and server have a process each. The store is the embedded one, without an append-only file, so
that no disk is measured. The server reaches it through a unix socket; clients reach the server
through loopback. Alternatives use the same store, and uvloop as the server does.
"""

import dataclasses
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activityfeed import FeedClient
from redis.asyncio import Redis

from benchmarks.harness.processes import server_process
from feedsvc.config import Config, Limits
from feedsvc.core import ids, keys
from feedsvc.embedded import EmbeddedStore

#: Limits with which no entity is a celebrity: all activities are pushed.
ALL_PUSHED = Limits(celebrity_threshold=0)
WORKERS = Config().workers


@dataclass(frozen=True, slots=True)
class Stage:
    """A store, a server on it, and a client of each."""

    redis: Any
    """Client of the store, as the server connects to it: redis-py's asyncio client with hiredis,
    RESP2. Its types do not know that the answers are bytes."""
    url: str
    """URL of the store."""
    target: str
    """``host:port`` of the server."""
    client: FeedClient
    """Client of the server. It sends no request ids: their records would be measured too."""
    shards: int
    store_pid: int
    server_pid: int

    def tag(self, entity: str) -> str:
        """Return the hash tag of an entity's keys."""
        return keys.tags(self.shards)[ids.shard_for(entity, self.shards)]

    def feed(self, user: str) -> str:
        """Return the key of a user's warm feed."""
        return keys.feed(self.tag(user), user)


@asynccontextmanager
async def open_stage(
    limits: Limits | None = None, *, workers: int = WORKERS
) -> AsyncIterator[Stage]:
    """Start an empty store and a server with the given settings; other settings have defaults."""
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
    """Start a server on a store, and yield its process id and its port."""
    settings = {"limits": dataclasses.asdict(limits), "workers": workers}
    return server_process("benchmarks.servers.measured", url, json.dumps(settings))
