"""The world that each interleaving starts in.

Ann and bob follow alice, who published two activities. Bob may follow dave, who published two as
well. Bob's feed is warm or cold, and bob is live.

The calling process delivers to the first follower of an activity and leaves the others to workers.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from feedsvc.config import Limits
from feedsvc.core.activities import NewActivity, digest
from feedsvc.core.batching import Command
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry
from tests.interleavings.scheduler import GatedStore, Line, packed
from tests.interleavings.truth import Truth
from tests.serving import frame_of

#: Each follower is a chunk of its own. Nobody becomes a celebrity by itself. An entity that a test
#: made a celebrity stays one for as long as it has followers.
LIMITS = Limits(
    shards=1,
    feed_cap=10,
    feed_slack=2,
    outbox_cap=20,
    push_chunk=1,
    inline_audience=1,
    job_tries=100,
    celebrity_threshold=3,
    celebrity_lower_percent=34,
    log_lease=86_400,
)
PEOPLE = {"alice", "ann", "bob", "dave", "erin"}
BASE_MS = int(time.time() * 1000) - 60_000

#: What is done in a new world before the operations of the test.
Preparation = Callable[["World"], Awaitable[object]] | None


@dataclass(frozen=True)
class Snapshot:
    """The state of a world."""

    activity_ids: dict[str, int]
    """The ids of the activities, by name."""
    feed: list[int]
    """Bob's feed by its definition."""
    commands: bytes
    """The packed commands that empty the store and restore its keys with their expiry."""
    count: int
    """Number of the commands."""


@dataclass
class World:
    """The engine under test, and what the test knows of the store."""

    store: GatedStore
    line: Line
    engine: Engine
    truth: Truth
    activity_ids: dict[str, int] = field(default_factory=dict)
    """The id of each activity, by the name that the test gave it."""
    snapshots: dict[tuple[bool, Preparation], Snapshot] = field(default_factory=dict)
    """The world as first made with a warm feed (True) or a cold one (False), and as prepared."""

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, limits: Limits) -> AsyncIterator[Self]:
        """Open a store for a world, and close it at the end."""
        store = GatedStore.at(url, limits)
        await store.open()
        line = store.line = Line(url)
        yield cls(store, line, Engine.on(store), Truth(line.redis, store.tags[0]))
        line.close()
        await store.close()

    async def reset(self, *, warm: bool, prepare: Preparation = None) -> list[int]:
        """Make the world anew and prepare it: the first time with real calls, then by a snapshot.

        Return bob's feed by its definition.
        """
        self.engine = Engine.on(self.store)
        if snapshot := self.snapshots.get((warm, prepare)):
            self.activity_ids = dict(snapshot.activity_ids)
            answers = self.line.ask_packed(snapshot.commands, snapshot.count)
            assert set(answers) == {b"OK"}, answers
            return snapshot.feed
        if prepare is None:
            self.activity_ids = {}
            self.line.ask(("FLUSHALL",))
            await self._make(warm=warm)
        else:
            await self.reset(warm=warm)
            await prepare(self)
            self.engine = Engine.on(self.store)
        snapshot = self.snapshots[warm, prepare] = self._snapshot()
        return snapshot.feed

    def _snapshot(self) -> Snapshot:
        self.truth.read()
        (stored_keys,) = self.line.ask(("KEYS", "*"))
        commands: list[Command] = [("FLUSHALL",)]
        for key in stored_keys:
            ttl_ms, content = self.line.ask(("PTTL", key), ("DUMP", key))
            commands.append(("RESTORE", key, max(0, ttl_ms), content))
        feed = self.truth.feed("bob")
        return Snapshot(dict(self.activity_ids), feed, packed(*commands), len(commands))

    async def _make(self, *, warm: bool) -> None:
        for number, name in enumerate(["a1", "d1", "a2", "d2"]):
            await self.publish(name, "alice" if name[0] == "a" else "dave", number * 1000)
        for follower in ("ann", "bob"):
            await self.engine.edges.follow([NewEdge(follower, "alice")])
        if warm:
            await self.engine.start_log("bob")
        else:
            await self.engine.logs.open(self.engine.logs.of_feed("bob"))

    @property
    def first_feed(self) -> set[int]:
        """The ids that bob's feed held when his log began."""
        return {self.activity_ids["a1"], self.activity_ids["a2"]}

    async def at_rest(self) -> None:
        """Have workers do all remaining jobs, as when all leases have expired."""
        await self.engine.workers.work(everything=True)

    async def publish(self, name: str, actor: str, after_ms: int, to: tuple[str, ...] = ()) -> int:
        """Publish an activity whose time lies `after_ms` milliseconds after the world's first."""
        new = NewActivity(
            *(actor, to, True, BASE_MS + after_ms, name),
            *(frame_of(actor, name), digest(name.encode())),
        )
        self.activity_ids[name] = (await self.engine.activities.publish(new, "")).id
        return self.activity_ids[name]

    async def log(self) -> list[Entry]:
        """Return the entries of bob's log, from the first that the last read of the truth saw."""
        log = self.engine.logs.of_feed("bob")
        entries, _ = await self.engine.logs.read(log, self.truth.log_start("bob"))
        return entries
