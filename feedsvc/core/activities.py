"""Activities: publishing, reading and deleting them.

A stored activity is a frame (see ``wire.py``): a short header, which scripts read, and its body,
which the core does not look into. The empty frame is the tombstone. Whether a body is there is the
one truth of an activity's existence: feeds, outboxes and logs hold ids only.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from feedsvc.core import ids, keys
from feedsvc.core.fanout import Fanout
from feedsvc.core.jobs import Delivery, Job, Jobs, Kind, Progress, parse
from feedsvc.core.requests import record
from feedsvc.core.sources import Source
from feedsvc.core.store import Store
from feedsvc.errors import (
    ActivityDeleted,
    ActivityNotFound,
    BeforeRetention,
    ExternalIdConflict,
    ExternalIdExpired,
    FanoutOverloaded,
    FeedError,
    RequestIdReused,
)

#: Milliseconds by which ids of now may run ahead of the store's clock to keep their order.
ORDERED_MS = 1_000


@dataclass(slots=True)
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
    """In its frame, as it is stored."""
    digest: bytes
    """Stands for what the caller sent: 16 bytes."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom an activity was published to."""

    actor: str
    to: tuple[str, ...] = ()
    followers: bool = True
    """Whether it went into the actor's outbox."""


@dataclass(slots=True)
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


def _delivering(activity_id: int, actor: str, to: tuple[str, ...], *, followers: bool) -> Job:
    if followers:
        return Job(Kind.DELIVER, activity_id, actor, to)
    return Job(Kind.DELIVER, activity_id, "", to, publisher=actor)


def _refusal(outcome: bytes, found: bytes, new: NewActivity) -> FeedError:
    """Why ``publish.lua`` refused an activity."""
    match outcome:
        case b"reused":
            return RequestIdReused("this request_id was sent before with another activity")
        case b"conflict":
            return ExternalIdConflict(
                f"the actor has another activity of this external_id: {found.decode()}", int(found)
            )
        case b"overloaded":
            return FanoutOverloaded("too many deliveries are waiting")
        case b"deleted":
            return ActivityDeleted("the activity of this external_id was deleted")
        case b"expired":
            return ExternalIdExpired("retention took the activity of this external_id")
        case _:
            return _too_old(new)


def _too_old(new: NewActivity) -> BeforeRetention:
    whose = "the actor's outbox" if new.followers else "every outbox in `to`"
    return BeforeRetention(f"{whose} was trimmed above this publish_time")


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
        return await self.delivered(new, published, until)

    async def delivered(self, new: NewActivity, published: Published, until: float) -> Published:
        """Wait for the delivery to end, until a time of the monotonic clock at most."""
        left = until - time.monotonic()
        if left <= 0 or published.delivery.state != "queued":
            return published
        job = _delivering(published.id, new.actor, new.to, followers=new.followers)
        delivery = await self._jobs.wait(job, published.delivery, left)
        return replace(published, delivery=delivery)

    async def _publish(self, new: NewActivity, request_id: str) -> Published:
        incarnation = self._store.eras[self.shard(new.actor)]
        outcome, activity_id, bitmap, mode, due, *pushed = await self._commit(new, request_id)
        already = outcome != b"published"
        if not already and new.publish_ms is None:
            shard = ids.shard_of(activity_id)
            self._latest[shard] = max(self._latest[shard], activity_id)
        job = _delivering(activity_id, new.actor, new.to, followers=new.followers)
        own = Source.of(new.actor, bitmap, mode) if new.followers else None
        progress = Progress()
        if own and not already:
            progress = self._fanout.pushed(own, pushed, ended=not due)
        if due:
            delivery = await self._fanout.inline(job, own, incarnation, progress)
            if not delivery.held:  # outboxes were trimmed after they were looked at
                raise _too_old(new)
        elif already:
            delivery = await self._jobs.delivery(job)
        else:
            delivery = progress.delivery("delivered")
        return Published(activity_id, already, delivery)

    async def delivery(
        self, activity_id: int, actor: str, to: tuple[str, ...], *, followers: bool = True
    ) -> Delivery:
        """How far a delivery has come; ``followers``: whether the actor's are addressed."""
        return await self._jobs.delivery(_delivering(activity_id, actor, to, followers=followers))

    async def _commit(self, new: NewActivity, request_id: str) -> tuple[Any, ...]:
        """Publish, and return what ``publish.lua`` does, if that is no refusal."""
        now = self._store.clock.now_ms()
        shard = self.shard(new.actor)
        name, seconds = record(self._store.limits, "p", new.actor, request_id)
        proposed = ids.make(
            now if new.publish_ms is None else min(new.publish_ms, now),
            ids.sequence_for(new.actor, new.external_id or name),
            shard,
        )
        if new.publish_ms is None:
            # Those of one millisecond keep their order, in outboxes of others too.
            last = self._latest.get(shard, 0)
            if proposed <= last < ids.make(now + ORDERED_MS, 0, shard):
                proposed = last + ids.STEP
            self._latest[shard] = proposed
        own = "1" if new.followers else "0"
        if not new.followers and not await self._some_hold(proposed, new.to):
            own = "-"
        call = secrets.token_hex(4)
        budget, cost = self._fanout.at_once(new.actor)
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
                own,
                call,
                budget,
                *new.to,
                cost=cost,
            )
            match outcome:
                case b"published" | b"replayed" | b"duplicate":
                    return outcome, int(found), *rest
                case b"busy":
                    continue
                case _:
                    raise _refusal(outcome, found, new)

    async def _some_hold(self, activity_id: int, outboxes: Iterable[str]) -> bool:
        """True if one of the outboxes was not trimmed above an id."""
        limits = self._store.limits

        async def holds(entity: str) -> bool:
            outbox = keys.outbox(self._store.tags[self.shard(entity)], entity)
            lowest, length = await asyncio.gather(
                self._store.call("LRANGE", outbox, 0, 1), self._store.call("LLEN", outbox)
            )
            full = length > limits.outbox_cap
            return all(int(found) < activity_id for found in lowest[: 2 if full else 1])

        return any(await asyncio.gather(*map(holds, outboxes)))

    async def bodies(self, wanted: Sequence[int]) -> list[bytes | None]:
        """The frames of activities in the order of the ids, None where there is none any more."""
        return await read_bodies(self._store, wanted)

    async def delete(
        self,
        activity_id: int,
        audience: Audience,
        request_digest: bytes,
        request_id: str,
    ) -> None:
        """Deletes an activity of an actor. Raises ActivityNotFound, RequestIdReused."""
        await self._fanout.finish(self._delete(activity_id, audience, request_digest, request_id))

    async def _delete(
        self, activity_id: int, audience: Audience, request_digest: bytes, request_id: str
    ) -> None:
        actor = audience.actor
        shard = self.shard(actor)
        if ids.shard_of(activity_id) != shard:  # nor can the actor have deleted it before
            raise ActivityNotFound("there is no such activity")
        incarnation = self._store.eras[shard]
        name, seconds = record(self._store.limits, "d", actor, request_id)
        outcome, job = await self._store.script(
            "delete",
            shard,
            activity_id,
            actor,
            request_digest,
            name,
            seconds,
            int(audience.followers),
            *audience.to,
        )
        if outcome == b"reused":
            raise RequestIdReused("this request_id was sent before to delete another activity")
        if outcome == b"absent":
            raise ActivityNotFound("there is no such activity")
        if job:  # else it has been done, or workers have it
            await self._fanout.inline(parse(job), None, incarnation)


async def read_bodies(store: Store, wanted: Sequence[int]) -> list[bytes | None]:
    """The frames of activities in the order of the ids, None where there is none any more."""
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
    return [frame or None for frame in frames]
