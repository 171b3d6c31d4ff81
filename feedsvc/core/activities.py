"""Activities: publishing, reading and deleting them.

A stored activity is a frame: two bytes of length, the name of its external id record, and its body,
which the core does not look into. The empty frame is the tombstone. Whether a body is there is the
one truth of an activity's existence: feeds, outboxes and logs hold ids only.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from feedsvc.core import ids, keys
from feedsvc.core.fanout import Fanout
from feedsvc.core.jobs import Delivery, Job, Jobs, Kind, parse
from feedsvc.core.sources import Source
from feedsvc.core.store import Store
from feedsvc.errors import (
    ActivityDeleted,
    ActivityNotFound,
    BeforeRetention,
    ExternalIdConflict,
    FanoutOverloaded,
    RequestIdReused,
    StoreUnavailable,
)

#: Seconds for which a mutation without a request id is remembered, in case its reply is lost
#: between the store and us, and the connection repeats it.
REPLAY_SECONDS = 60
#: Milliseconds by which ids of now may run ahead of the store's clock to keep their order.
ORDERED_MS = 1_000


@dataclass(frozen=True, slots=True)
class NewActivity:
    """An activity to publish."""

    actor: str
    to: tuple[str, ...]
    followers: bool
    """Whether it goes into the actor's outbox."""
    publish_ms: int | None
    """When it was done, in Unix milliseconds; None: now."""
    external_id: str
    body: bytes
    digest: bytes
    """Stands for what the caller sent: 16 bytes."""


@dataclass(frozen=True, slots=True)
class Published:
    id: int
    already: bool
    delivery: Delivery


def digest(*parts: bytes) -> bytes:
    """16 bytes that stand for what a caller sent."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(4))
        state.update(part)
    return state.digest()


def _delivering(activity_id: int, actor: str | None, to: tuple[str, ...]) -> Job:
    return Job(Kind.DELIVER, activity_id, actor or "", to)


class Activities:
    """The activities of a store."""

    def __init__(self, store: Store, fanout: Fanout, jobs: Jobs) -> None:
        self._store = store
        self._fanout = fanout
        self._jobs = jobs
        self._latest: dict[int, int] = {}
        """By shard, the last id that was proposed for an activity of now."""

    def shard(self, entity: str) -> int:
        return ids.shard_for(entity, self._store.limits.shards)

    async def publish(
        self, new: NewActivity, request_id: str, wait_seconds: float = 0.0
    ) -> Published:
        """Publishes and delivers, or has it delivered; waits at most so long for that to end.

        With the same request or external id as before it publishes nothing. Raises BeforeRetention,
        ActivityDeleted, ExternalIdConflict, RequestIdReused, FanoutOverloaded.
        """
        until = time.monotonic() + wait_seconds
        published = await self._fanout.finish(self._publish(new, request_id))
        left = until - time.monotonic()
        if left <= 0 or published.delivery.state != "queued":
            return published
        job = _delivering(published.id, new.actor if new.followers else None, new.to)
        return replace(published, delivery=await self._jobs.wait(job, left))

    async def _publish(self, new: NewActivity, request_id: str) -> Published:
        incarnation = self._store.eras[self.shard(new.actor)]
        outcome, activity_id, bitmap, mode, due = await self._commit(new, request_id)
        already = outcome != b"published"
        if not already and new.publish_ms is None:
            shard = ids.shard_of(activity_id)
            self._latest[shard] = max(self._latest[shard], activity_id)
        job = _delivering(activity_id, new.actor if new.followers else None, new.to)
        if due:
            own = Source.of(new.actor, bitmap, mode) if new.followers else None
            delivery = await self._fanout.inline(job, own, incarnation)
        elif already:
            delivery = await self._jobs.delivery(job)
        else:
            delivery = Delivery()
        return Published(activity_id, already, delivery)

    async def delivery(self, activity_id: int, actor: str | None, to: tuple[str, ...]) -> Delivery:
        """How far a delivery has come; ``actor`` if its followers are addressed."""
        return await self._jobs.delivery(_delivering(activity_id, actor, to))

    async def _commit(
        self, new: NewActivity, request_id: str
    ) -> tuple[bytes, int, bytes, bytes, int]:
        now = self._store.clock.now_ms()
        shard = self.shard(new.actor)
        unique = new.external_id or request_id or secrets.token_hex(8)
        proposed = ids.make(
            now if new.publish_ms is None else min(new.publish_ms, now),
            ids.sequence_for(new.actor, unique),
            shard,
        )
        if new.publish_ms is None:
            # Those of one millisecond keep their order, in outboxes of others too.
            last = self._latest.get(shard, 0)
            if proposed <= last < ids.make(now + ORDERED_MS, 0, shard):
                proposed = last + ids.STEP
            self._latest[shard] = proposed
        name, seconds = self._request("p", new.actor, request_id)
        while True:
            outcome, found, *rest = await self._store.script(
                "publish",
                shard,
                new.actor,
                proposed,
                int(new.publish_ms is None),
                new.body,
                new.digest,
                name,
                seconds,
                f"{new.actor}\0{new.external_id}" if new.external_id else "",
                int(new.followers),
                *new.to,
            )
            match outcome:
                case b"published" | b"replayed" | b"duplicate":
                    bitmap, mode, due = rest
                    return outcome, int(found), bitmap, mode, due
                case b"busy":
                    continue
                case b"reused":
                    raise RequestIdReused("this request_id was sent before with another activity")
                case b"conflict":
                    raise ExternalIdConflict(
                        f"the actor has another activity of this external_id: {found.decode()}",
                        int(found),
                    )
                case b"overloaded":
                    raise FanoutOverloaded("too many deliveries are waiting")
                case b"deleted":
                    raise ActivityDeleted("the activity of this external_id was deleted")
                case _:
                    raise BeforeRetention("the actor's outbox was trimmed above this publish_time")

    def _request(self, rpc: str, entity: str, request_id: str) -> tuple[str, int]:
        if request_id:
            return keys.request(rpc, entity, request_id), self._store.limits.request_ttl
        return keys.request(rpc, entity, "\0" + secrets.token_hex(8)), REPLAY_SECONDS

    async def bodies(self, wanted: Sequence[int]) -> list[bytes | None]:
        """The bodies of activities in the order of the ids, None where there is none any more."""
        return await read_bodies(self._store, wanted)

    async def delete(
        self,
        activity_id: int,
        actor: str,
        to: Iterable[str],
        request_digest: bytes,
        request_id: str,
    ) -> None:
        """Deletes an activity of an actor. ``to`` is whom it was published to.

        Raises ActivityNotFound, RequestIdReused.
        """
        await self._fanout.finish(self._delete(activity_id, actor, to, request_digest, request_id))

    async def _delete(
        self,
        activity_id: int,
        actor: str,
        to: Iterable[str],
        request_digest: bytes,
        request_id: str,
    ) -> None:
        shard = self.shard(actor)
        if ids.shard_of(activity_id) != shard:  # nor can the actor have deleted it before
            raise ActivityNotFound("there is no such activity")
        incarnation = self._store.eras[shard]
        name, seconds = self._request("d", actor, request_id)
        outcome, job = await self._store.script(
            "delete", shard, activity_id, actor, request_digest, name, seconds, *to
        )
        if outcome == b"reused":
            raise RequestIdReused("this request_id was sent before to delete another activity")
        if outcome == b"absent":
            raise ActivityNotFound("there is no such activity")
        if job:  # else it has been done, or workers have it
            await self._fanout.inline(parse(job), None, incarnation)

    async def forget_let_go(self) -> None:
        """Tells activities' shards which outboxes elsewhere let them go; as often as one likes."""
        with contextlib.suppress(StoreUnavailable):
            for tag in self._store.tags:
                while entries := await self._store.call("LRANGE", keys.let_go(tag), 0, 99):
                    for entry in entries:
                        text, _, outbox = entry.partition(b" ")
                        await self._store.script(
                            "release", ids.shard_of(int(text)), int(text), outbox
                        )
                        await self._store.call("LREM", keys.let_go(tag), 1, entry)


async def read_bodies(store: Store, wanted: Sequence[int]) -> list[bytes | None]:
    """The bodies of activities in the order of the ids, None where there is none any more."""
    if not store.cluster:
        return await _read_bodies(store, wanted)
    by_slot: dict[int, list[int]] = {}
    for activity_id in wanted:
        by_slot.setdefault(ids.shard_of(activity_id), []).append(activity_id)
    parts = await asyncio.gather(*(_read_bodies(store, some) for some in by_slot.values()))
    found = {
        one: body
        for some, bodies in zip(by_slot.values(), parts, strict=True)
        for one, body in zip(some, bodies, strict=True)
    }
    return [found[activity_id] for activity_id in wanted]


async def _read_bodies(store: Store, wanted: Sequence[int]) -> list[bytes | None]:
    """The same, by one command."""
    if not wanted:
        return []
    frames = await store.call("MGET", *keys.activities(store.tags, wanted))
    return [frame[2 + (frame[0] << 8 | frame[1]) :] if frame else None for frame in frames]
