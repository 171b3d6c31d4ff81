"""Activities: published, read and deleted.

A stored activity is a frame (see ``wire.py``): a short header, which scripts read, and its body,
which the core does not look into. The empty frame is the tombstone. The frame alone says whether an
activity exists: feeds, outboxes and logs hold ids only.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from feedsvc.core import ids, keys
from feedsvc.core.background import CommittedWork
from feedsvc.core.fanout import Fanout
from feedsvc.core.job import Delivery, Job, Kind, Progress
from feedsvc.core.jobs import Jobs
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
    """True if the activity goes into the actor's outbox."""
    publish_ms: int | None
    """Unix milliseconds of the action; None: now."""
    external_id: str
    frame: bytes
    digest: bytes
    """Digest of what the caller sent: see ``digest``."""


@dataclass(frozen=True, slots=True)
class Audience:
    """The entities that an activity was published to."""

    actor: str
    to: tuple[str, ...] = ()
    followers: bool = True
    """True if the activity went into the actor's outbox."""


@dataclass(slots=True)
class Published:
    """A published activity."""

    id: int
    already: bool
    """True if an earlier call published it."""
    delivery: Delivery


def digest(*parts: bytes) -> bytes:
    """Return the digest of what a caller sent, 16 bytes."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(4))
        state.update(part)
    return state.digest()


def _delivering(activity_id: int, actor: str, to: tuple[str, ...], *, followers: bool) -> Job:
    if followers:
        return Job(Kind.DELIVER, activity_id, actor, to)
    return Job(Kind.DELIVER, activity_id, "", to, publisher=actor)


def _refusal(outcome: bytes, activity_id: bytes, new: NewActivity) -> FeedError:
    """Return the error for an activity that ``publish.lua`` refused.

    ``activity_id`` is the activity that has the external id already.
    """
    match outcome:
        case b"reused":
            return RequestIdReused("this request_id was sent before with another activity")
        case b"conflict":
            return ExternalIdConflict(
                f"the actor has another activity of this external_id: {activity_id.decode()}",
                int(activity_id),
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
    outboxes = "the actor's outbox" if new.followers else "every outbox in `to`"
    return BeforeRetention(f"{outboxes} was trimmed above this publish_time")


class Activities:
    """The activities of a store."""

    def __init__(self, store: Store, fanout: Fanout, jobs: Jobs, work: CommittedWork) -> None:
        self._store = store
        self._fanout = fanout
        self._jobs = jobs
        self._work = work
        self._latest: dict[int, int] = {}
        """By shard, the greatest id of an activity without a publish time, proposed or stored."""

    async def publish(
        self, new: NewActivity, request_id: str, wait_seconds: float = 0.0
    ) -> Published:
        """Publish an activity; deliver it, or leave the delivery to workers.

        Wait at most ``wait_seconds`` for the delivery to end. A request id or external id that was
        used before publishes nothing new. Raise BeforeRetention, ActivityDeleted,
        ExternalIdConflict, ExternalIdExpired, RequestIdReused, FanoutOverloaded.
        """
        until = time.monotonic() + wait_seconds
        published = await self._work.finish(self._publish(new, request_id))
        return await self.delivered(new, published, until)

    async def delivered(self, new: NewActivity, published: Published, until: float) -> Published:
        """Wait for the delivery to end, until a monotonic time at the latest."""
        seconds = until - time.monotonic()
        if seconds <= 0 or published.delivery.state != "queued":
            return published
        job = _delivering(published.id, new.actor, new.to, followers=new.followers)
        delivery = await self._jobs.wait(job, published.delivery, seconds)
        return replace(published, delivery=delivery)

    async def _publish(self, new: NewActivity, request_id: str) -> Published:
        era = self._store.eras[self._store.shard_for(new.actor)]
        outcome, activity_id, bitmap, mode, is_due, *answers = await self._commit(new, request_id)
        already = outcome != b"published"
        if not already and new.publish_ms is None:
            shard = ids.shard_of(activity_id)
            self._latest[shard] = max(self._latest[shard], activity_id)
        job = _delivering(activity_id, new.actor, new.to, followers=new.followers)
        actor = Source.of(new.actor, bitmap, mode) if new.followers else None
        progress = Progress()
        if actor and not already:
            progress = self._fanout.step_progress(actor, answers, ended=not is_due)
        if is_due:
            delivery = await self._fanout.inline(job, actor, era, progress)
            if not delivery.held:  # the outboxes were trimmed after `_any_takes` read them
                raise _too_old(new)
        elif already:
            delivery = await self._jobs.delivery(job)
        else:
            delivery = progress.delivery("delivered")
        return Published(activity_id, already, delivery)

    async def delivery(
        self, activity_id: int, actor: str, to: tuple[str, ...], *, followers: bool = True
    ) -> Delivery:
        """Return how far a delivery has come; ``followers`` if the actor's are addressed."""
        return await self._jobs.delivery(_delivering(activity_id, actor, to, followers=followers))

    async def _commit(self, new: NewActivity, request_id: str) -> tuple[Any, ...]:
        """Run ``publish.lua`` and return its answer. Raise the error for its refusal."""
        shard = self._store.shard_for(new.actor)
        name, seconds = record(self._store.limits, "p", new.actor, request_id)
        proposed = self._propose_id(new, shard, new.external_id or name)
        own_outbox = "1" if new.followers else "0"
        if not new.followers and not await self._any_takes(proposed, new.to):
            own_outbox = "-"
        call_name = secrets.token_hex(4)
        budget, cost = self._fanout.step_budget(new.actor)
        while True:
            outcome, answered_id, *answer = await self._store.script(
                "publish",
                shard,
                new.actor,
                proposed,
                int(new.publish_ms is None),
                new.frame,
                new.digest,
                name,
                seconds,
                f"{new.actor}\0{new.external_id}" if new.external_id else "",
                own_outbox,
                call_name,
                budget,
                *new.to,
                cost=cost,
            )
            match outcome:
                case b"published" | b"replayed" | b"duplicate":
                    return outcome, int(answered_id), *answer
                case b"busy":
                    continue
                case _:
                    raise _refusal(outcome, answered_id, new)

    def _propose_id(self, new: NewActivity, shard: int, unique: str) -> int:
        """Return the id to propose to the store, from what is unique about an activity."""
        now = self._store.clock.now_ms()
        ms = now if new.publish_ms is None else min(new.publish_ms, now)
        proposed = ids.make(ms, ids.sequence_for(new.actor, unique), shard)
        if new.publish_ms is None:
            # Activities of one millisecond keep their order, also in the outboxes of `to`.
            latest = self._latest.get(shard, 0)
            if proposed <= latest < ids.make(now + ORDERED_MS, 0, shard):
                proposed = latest + ids.STEP
            self._latest[shard] = proposed
        return proposed

    async def _any_takes(self, activity_id: int, entities: Iterable[str]) -> bool:
        """Return whether the outbox of any entity takes an id: its floor is below the id."""
        limits = self._store.limits

        async def takes(entity: str) -> bool:
            outbox = keys.outbox(self._store.tag_for(entity), entity)
            floor_and_oldest, length = await asyncio.gather(
                self._store.call("LRANGE", outbox, 0, 1), self._store.call("LLEN", outbox)
            )
            # A full outbox would trim an id below its oldest id at once.
            bounds = floor_and_oldest[: 2 if length > limits.outbox_cap else 1]
            return all(int(bound) < activity_id for bound in bounds)

        return any(await asyncio.gather(*map(takes, entities)))

    async def frames(self, activity_ids: Sequence[int]) -> list[bytes | None]:
        """Return the frames of activities in the order of the ids; None for a deleted activity."""
        return await read_frames(self._store, activity_ids)

    async def delete(
        self,
        activity_id: int,
        audience: Audience,
        request_digest: bytes,
        request_id: str,
    ) -> None:
        """Delete an activity of an actor. Raise ActivityNotFound, RequestIdReused."""
        await self._work.finish(self._delete(activity_id, audience, request_digest, request_id))

    async def _delete(
        self, activity_id: int, audience: Audience, request_digest: bytes, request_id: str
    ) -> None:
        actor = audience.actor
        shard = self._store.shard_for(actor)
        if ids.shard_of(activity_id) != shard:  # an actor's activities are in its own shard
            raise ActivityNotFound(activity_id)
        era = self._store.eras[shard]
        name, seconds = record(self._store.limits, "d", actor, request_id)
        outcome, job_text = await self._store.script(
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
            raise ActivityNotFound(activity_id)
        if job_text:  # else the job has ended, or workers have the job
            await self._fanout.inline(Job.decode(job_text), None, era)


async def read_frames(store: Store, activity_ids: Sequence[int]) -> list[bytes | None]:
    """Return the frames of activities in the order of the ids; None for a deleted activity."""
    if not store.cluster:
        return await _read_frames(store, activity_ids)
    by_shard: dict[int, list[int]] = {}
    for activity_id in activity_ids:
        by_shard.setdefault(ids.shard_of(activity_id), []).append(activity_id)
    parts = await asyncio.gather(*(_read_frames(store, part) for part in by_shard.values()))
    frames = {
        activity_id: frame
        for part, part_frames in zip(by_shard.values(), parts, strict=True)
        for activity_id, frame in zip(part, part_frames, strict=True)
    }
    return [frames[activity_id] for activity_id in activity_ids]


async def _read_frames(store: Store, activity_ids: Sequence[int]) -> list[bytes | None]:
    """Read frames by one command; on a cluster all ids must be of one shard."""
    if not activity_ids:
        return []
    frames = await store.call("MGET", *keys.activities(store.tags, activity_ids))
    return [frame or None for frame in frames]
