"""The world that each interleaving starts in.

Ann and bob follow alice, who published two activities. Bob may follow dave, who published two as
well. Bob's feed is warm or cold, and bob is live.

The calling process delivers to the first follower of an activity and leaves the others to workers.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from feedsvc.config import Limits
from feedsvc.core.activities import NewActivity, digest
from feedsvc.core.edges import NewEdge
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry
from tests.interleavings.scheduler import GatedStore
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

#: The ids of the activities, by name, and the keys of the store with their expiry and content.
Snapshot = tuple[dict[str, int], dict[bytes, tuple[int, bytes]]]


@dataclass
class World:
    """The engine under test, and what the test knows of the store."""

    store: GatedStore
    engine: Engine
    truth: Truth
    activity_ids: dict[str, int] = field(default_factory=dict)
    """The id of each activity, by the name that the test gave it."""
    snapshots: dict[bool, Snapshot] = field(default_factory=dict)
    """The world as first made, with a warm feed (True) and with a cold one (False)."""

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, limits: Limits) -> AsyncIterator[Self]:
        """Open a store for a world, and close it at the end."""
        store = GatedStore.at(url, limits)
        await store.open()
        yield cls(store, Engine.on(store), Truth(store.redis, store.tags[0]))
        await store.close()

    async def reset(self, *, warm: bool) -> None:
        """Make the world anew: the first time with real calls, then from a snapshot."""
        self.engine = Engine.on(self.store)
        redis = self.store.redis
        await redis.flushall()
        if warm in self.snapshots:
            self.activity_ids, stored = dict(self.snapshots[warm][0]), self.snapshots[warm][1]
            pipeline = redis.pipeline(transaction=False)
            for key, (ttl, content) in stored.items():
                pipeline.restore(key, max(0, ttl), content)
            await pipeline.execute()
            return
        self.activity_ids = {}
        await self._make(warm=warm)
        self.snapshots[warm] = (
            dict(self.activity_ids),
            {key: (await redis.pttl(key), await redis.dump(key)) for key in await redis.keys()},
        )

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
        """Return the entries of bob's log."""
        first = await self.store.redis.xrange(f"{self.store.tags[0]}l:bob", count=1)
        log = self.engine.logs.of_feed("bob")
        entries, _ = await self.engine.logs.read(log, first[0][0].decode())
        return entries
