"""Facts about the store for operators: product, version, persistence, memory, keys.

The facts come from INFO, CONFIG and DBSIZE, in one exchange on a connection of its own. However
many callers ask, the store is asked at most once a second. A managed store may forbid CONFIG; then
the facts say what is unknown.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis.exceptions import RedisError

from feedsvc.core import fitness, keys
from feedsvc.core.background import mark_retrieved
from feedsvc.core.batching import Command
from feedsvc.core.store import Store
from feedsvc.errors import StoreUnavailable

#: Seconds for which facts are fresh, and seconds that a caller waits for fresh facts at most.
FRESH_SECONDS, WAIT_SECONDS = 1.0, 1.0
#: Keys that one look at the database asks for. The store needs about 0.2 ms for that.
SAMPLE_KEYS = 1_000


class Persistence(Enum):
    """The way in which a store keeps its data on disk; the value is for operators."""

    SYNCED_ALWAYS = "append-only file, synced always"
    SYNCED_EVERY_SECOND = "append-only file, synced every second"
    NOT_SYNCED = "append-only file, sync off"
    APPEND_ONLY_FILE = "append-only file, sync unknown"
    SNAPSHOTS = "only snapshots"
    NONE = "off"


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store as it described itself at a moment."""

    product: str
    """"Valkey" or "Redis"."""
    version: str
    """Version of the product, like "9.1.0"."""
    persistence: Persistence
    eviction_policy: str
    """The store's maxmemory-policy."""
    used_memory: int
    """Bytes that the store uses for data and buffers."""
    max_memory: int
    """Bytes from which the store refuses writes. 0: no limit."""
    keys: int
    """Number of keys in the database, those of other programs included."""
    replicas: int
    """Number of connected replicas."""
    uptime_seconds: int
    """Seconds since the store started."""
    read_time: float
    """Unix time in seconds, by this machine's clock, at which the store gave these facts."""


@dataclass(frozen=True, slots=True)
class KeySample:
    """A look at some keys of the database."""

    sampled: int
    """Number of keys that the look covered."""
    foreign: int
    """Number of these keys that are not the service's."""


class FactsReader:
    """The reader of facts about one store."""

    def __init__(self, store: Store) -> None:
        """Use ``store``, a connection that nothing else uses."""
        self._store = store
        self._facts: StoreFacts | None = None
        self._began = 0.0
        """Monotonic time at which the last reading began."""
        self._reading: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()

    async def facts(self) -> StoreFacts | None:
        """Return facts that are at most about a second old, if the store answers.

        Otherwise return the last facts, after a wait of up to ``WAIT_SECONDS``, or None if the
        store never gave any.
        """
        now = time.monotonic()
        if self._reading is None or (self._reading.done() and now - self._began >= FRESH_SECONDS):
            self._began = now
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(mark_retrieved)
        # The reading goes on if this caller gives up or goes away: other callers wait for it too.
        await asyncio.wait([self._reading], timeout=WAIT_SECONDS)
        return self._facts

    async def sample_keys(self) -> KeySample | None:
        """Look at up to about ``SAMPLE_KEYS`` keys; return None if the store does not answer.

        A fresh or small database is covered as a whole. The keys of a large one are a fair sample,
        because the store hands them out in the order of their hashes.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                (answer,) = await self._ask([("SCAN", 0, "COUNT", SAMPLE_KEYS)])
        except (RedisError, OSError, StoreUnavailable):
            return None
        if isinstance(answer, Exception):
            return None
        _, names = answer
        tags = self._store.tags
        foreign = sum(not keys.is_own(name.decode(errors="replace"), tags) for name in names)
        return KeySample(len(names), foreign)

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _ask(self, commands: list[Command]) -> list[Any]:
        async with self._asking:
            return await self._store.ask(commands)

    async def _read(self) -> None:
        """Read the facts, or keep the last ones if the store does not answer."""
        commands: list[Command] = [
            ("INFO",),
            ("CONFIG", "GET", "appendfsync"),
            ("CONFIG", "GET", "save"),
            ("DBSIZE",),
        ]
        try:
            answers = await self._ask(commands)
        except (RedisError, OSError, StoreUnavailable):
            return
        info, *settings, key_count = answers
        if isinstance(info, Exception) or isinstance(key_count, Exception):
            return
        self._facts = _facts(fitness.fields_of(info), settings, int(key_count))


def _facts(info: dict[str, str], settings: list[Any], key_count: int) -> StoreFacts:
    """Return the facts in a store's answers to INFO, CONFIG GET and DBSIZE."""
    product, version = fitness.product_of(info)
    appendfsync, save = map(_setting, settings)
    return StoreFacts(
        product=product,
        version=version,
        persistence=_persistence(
            has_file=info.get("aof_enabled") == "1", appendfsync=appendfsync, save=save
        ),
        eviction_policy=info.get("maxmemory_policy", ""),
        used_memory=int(info.get("used_memory", 0)),
        max_memory=int(info.get("maxmemory", 0)),
        keys=key_count,
        replicas=int(info.get("connected_slaves", 0)),
        uptime_seconds=int(info.get("uptime_in_seconds", 0)),
        read_time=time.time(),
    )


def _setting(answer: Any) -> str | None:
    """Return the value in an answer to CONFIG GET; None if the store does not give it."""
    if isinstance(answer, Exception) or len(answer) < 2:  # noqa: PLR2004 (a name and its value)
        return None
    value: str = answer[1].decode()
    return value


def _persistence(*, has_file: bool, appendfsync: str | None, save: str | None) -> Persistence:
    if not has_file:
        return Persistence.NONE if save == "" else Persistence.SNAPSHOTS
    return {
        "always": Persistence.SYNCED_ALWAYS,
        "everysec": Persistence.SYNCED_EVERY_SECOND,
        "no": Persistence.NOT_SYNCED,
    }.get(appendfsync or "", Persistence.APPEND_ONLY_FILE)
