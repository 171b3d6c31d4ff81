"""Fan-out: delivers published activities to followers' feeds, and retracts deleted activities.

The process that publishes works on its job at once, up to a bound; workers do the remaining work.
A job addresses *sources*: entities whose followers, shard by shard, get the activity.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from feedsvc.core import flips, sources
from feedsvc.core.job import BEGINNING, ENDED, Delivery, Job, Kind, Progress, State
from feedsvc.core.jobs import Jobs
from feedsvc.core.log_limits import log_failure
from feedsvc.core.sources import Source
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Most shards that one call works on, where keys may be of several slots.
SHARDS_A_CALL = 16
#: Number of entities whose count of followers is remembered: it says what a push to them costs.
REMEMBERED = 10_000
#: Work that the step which publishes takes upon itself, in followers, and the cost that is expected
#: of it, while the number of followers is not known.
UNKNOWN_BUDGET, UNKNOWN_COST = 64, 20


@dataclass(frozen=True, slots=True)
class Run:
    """A job under way: its progress, and the calls that its process may make for it."""

    job: Job
    progress: Progress
    turn: Callable[[], AbstractAsyncContextManager[Store]]
    """Waits until a call may be made, and lends the connection for the call."""
    budget: Callable[[], int]
    """Returns the work of the next call, in followers."""
    may_go_on: Callable[[], bool] = lambda: True
    """Returns whether another call may be made."""

    def open_shards(self, source: Source) -> deque[int]:
        """Return the shards of a source in which work remains."""
        positions = self.progress.of(source)
        return deque(shard for shard in source.shards if positions.get(shard) != ENDED)


class Sizes:
    """Remembers how many followers entities had at their last delivery."""

    def __init__(self) -> None:
        self._followers: dict[str, int] = {}

    def expected(self, entity: str, shards: int, all_shards: int, limit: int) -> int:
        """Estimate the followers in ``shards`` of the ``all_shards`` shards of an entity.

        Return at most ``limit``; return ``limit`` if the entity's followers were never counted.
        """
        if not shards:
            return 0
        followers = self._followers.get(entity)
        if followers is None:
            return limit
        return min(limit, math.ceil(followers * shards / all_shards))

    def step_budget(self, entity: str, limit: int) -> tuple[int, int]:
        """Return the budget of the step that publishes, in followers, and its expected cost.

        The step delivers to all followers or, if they are more than ``limit``, to none.
        """
        followers = self._followers.get(entity)
        if followers is None:
            return min(limit, UNKNOWN_BUDGET), min(limit, UNKNOWN_COST)
        return (limit, followers) if followers <= limit else (0, 0)

    def note(self, entity: str, followers: int) -> None:
        """Remember an entity's number of followers; forget the entity noted longest ago."""
        self._followers.pop(entity, None)
        self._followers[entity] = followers
        if len(self._followers) > REMEMBERED:
            del self._followers[next(iter(self._followers))]


class Fanout:
    """Works on deliveries, retractions and flips."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store = store
        self._jobs = jobs
        self._sizes = Sizes()

    def step_budget(self, actor: str) -> tuple[int, int]:
        """Return the budget of the step that publishes, in followers, and its expected cost."""
        if self._store.cluster:
            return 0, 0
        limits = self._store.limits
        limit = min(limits.step_audience, limits.push_chunk, limits.inline_audience)
        return self._sizes.step_budget(actor, limit)

    def step_progress(self, actor: Source, answers: Sequence[Any], *, ended: bool) -> Progress:
        """Return how far the step that published has delivered by itself."""
        progress = Progress()
        if answers:
            progress.note_pushed(actor, actor.shards, answers)
        if ended and not actor.pulled:
            self._sizes.note(actor.entity, progress.seen)
        return progress

    async def inline(
        self, job: Job, actor: Source | None, era: str, progress: Progress | None = None
    ) -> Delivery:
        """Work on a job while its caller waits, up to a bound; leave the remaining work to workers.

        ``actor`` is the actor as the step that made the job saw it, ``progress`` how far that step
        has come, and ``era`` the store's era from before that step. After an error the job stays in
        the store, and a worker takes it over.
        """
        progress = progress or Progress()
        try:
            return await self._inline(job, actor, era, progress)
        except StoreUnavailable:
            return progress.delivery("queued")
        except Exception as error:  # noqa: BLE001 (the activity is published)
            log_failure(log, "a delivery by the publishing call failed; workers try again", error)
            with suppress(StoreUnavailable, RedisError):  # then a worker takes the job over
                await self._jobs.spill(job, era, progress, "queued")
            return progress.delivery("queued")

    async def _inline(
        self, job: Job, actor: Source | None, era: str, progress: Progress
    ) -> Delivery:
        if actor and not job.to:
            addressed = [actor]
        else:
            addressed = await self.sources(self._store, job, actor)
        progress.held = bool(addressed) or job.kind is not Kind.DELIVER
        pulled = any(source.pulled for source in addressed)
        work_ended, job_ended = await self._work_inline(job, addressed, era, progress)
        limits = self._store.limits
        # Other jobs count no followers, and neither does a delivery by pull.
        if job.kind is Kind.DELIVER and len(addressed) == 1 and not pulled:
            self._sizes.note(addressed[0].entity, progress.seen)
        if pulled or not work_ended or 0 < limits.celebrity_threshold <= progress.seen:
            await self.count(self._store, addressed, progress)
        if not work_ended:
            state: State = "pulled" if pulled and _all_pushed(progress, addressed) else "queued"
            await self._jobs.spill(job, era, progress, state)
            return progress.delivery(state)
        if not job_ended and not await self._jobs.done(job, era):
            # The store has lost recent writes, or all: the delivery starts again from nothing.
            await self._jobs.spill(job, era, Progress(), "queued")
            return progress.delivery("queued")
        return progress.delivery("pulled" if pulled else "delivered")

    async def _work_inline(
        self, job: Job, addressed: Sequence[Source], era: str, progress: Progress
    ) -> tuple[bool, bool]:
        """Work on a job up to the bound of inline work.

        Return whether the work has ended, and whether the last call ended the job with it.
        """
        limits = self._store.limits
        budget = self._inline_budget(addressed)
        run = Run(
            job,
            progress,
            lambda: nullcontext(self._store),
            lambda: budget,
            may_go_on=lambda: progress.seen + progress.announced < limits.inline_audience,
        )
        if run.may_go_on() and self._fits_one_call(job, addressed):
            (source,) = addressed
            shards = run.open_shards(source)
            if shards and await self._push(run, self._store, source, list(shards), end_in_era=era):
                return True, True
        return await self.work(run, addressed), False

    def _inline_budget(self, addressed: Sequence[Source]) -> int:
        """Return the followers that each inline call works on, so that all lanes get a share."""
        limits = self._store.limits
        lanes = sum(
            math.ceil(len(source.shards) / _shards_a_call(self._store)) for source in addressed
        )
        share = math.ceil(limits.inline_audience / max(1, lanes))
        return max(1, min(limits.push_chunk, share))

    def _fits_one_call(self, job: Job, addressed: Sequence[Source]) -> bool:
        """Return whether one call may deliver everything and end the job too."""
        return (
            not self._store.cluster
            and job.kind is Kind.DELIVER
            and len(addressed) == 1
            and not addressed[0].pulled
            and len(addressed[0].shards) <= SHARDS_A_CALL
        )

    async def count(self, store: Store, addressed: Sequence[Source], progress: Progress) -> None:
        """Count the audience of a job, and begin to flip the edges of a source if that is due."""
        counts = await asyncio.gather(*(flips.begin_if_due(store, source) for source in addressed))
        progress.audience = sum(followers for followers, _ in counts)
        for source, (_, flip_has_begun) in zip(addressed, counts, strict=True):
            if flip_has_begun:
                self._jobs.look_at(store.shard_for(source.entity))

    async def flip_if_due(self, entity: str) -> None:
        """Begin to flip the edges to an entity if the number of its followers calls for that."""
        await self.count(self._store, await sources.read(self._store, [entity]), Progress())

    async def sources(self, store: Store, job: Job, actor: Source | None = None) -> list[Source]:
        """Return the sources that a job addresses; ``actor`` if the caller has read it already.

        Put a published activity into the outboxes of the entities that it is published ``to``.
        Announce a deleted activity as removed in the logs of the sources themselves.
        """
        addressed = [actor] if actor is not None else []
        if actor is None and job.actor:
            addressed = await sources.read(store, [job.actor])
        others = [entity for entity in job.to if entity != job.actor]
        if job.kind is Kind.DELIVER:
            return addressed + await self._add_to_outboxes(store, others, job.subject)
        addressed += await sources.read(store, others)
        if job.kind is Kind.RETRACT:
            route = f"{job.author}\0{job.external_id}"
            await asyncio.gather(
                *(
                    self._in_shard_of(store, "retract", source.entity, job.subject, route)
                    for source in addressed
                )
            )
        return addressed

    async def _add_to_outboxes(
        self, store: Store, entities: Sequence[str], activity_id: int
    ) -> list[Source]:
        """Put an activity into outboxes; return the entities whose outbox takes the activity."""
        answers = await asyncio.gather(
            *(self._in_shard_of(store, "outbox_add", entity, activity_id) for entity in entities)
        )
        return [
            Source.of(entity, *fields)
            for entity, fields in zip(entities, answers, strict=True)
            if fields  # else the activity is too old for the outbox
        ]

    async def _in_shard_of(
        self, store: Store, script: str, entity: str, activity_id: int, *arguments: Arg
    ) -> Any:
        """Run a script about an activity in an entity's shard."""
        return await store.script(script, store.shard_for(entity), entity, activity_id, *arguments)

    async def work(self, run: Run, addressed: Sequence[Source]) -> bool:
        """Continue a job; return whether its work has ended.

        If the work fails in one shard, do the work of the others before raising the first error.
        """
        shards_a_call = _shards_a_call(self._store)
        if run.progress.audience:  # a call takes no more shards than its budget covers
            shards = max(1, sum(len(source.shards) for source in addressed))
            followers_a_shard = max(1.0, run.progress.audience / shards)
            shards_a_call = max(1, min(shards_a_call, int(run.budget() / followers_a_shard) + 1))
        return await _all_end(
            self._lane(run, source, open_shards, shards_a_call)
            for source, open_shards in [(source, run.open_shards(source)) for source in addressed]
            for _ in range(math.ceil(len(open_shards) / shards_a_call))
        )

    async def _lane(
        self, run: Run, source: Source, open_shards: deque[int], shards_a_call: int
    ) -> bool:
        """Work call by call on the open shards; return False if the run may not go on.

        Other lanes take shards from the same queue. A shard in which work remains after a call goes
        to the front of the queue.
        """
        positions = run.progress.of(source)
        shards = list[int]()
        try:
            while open_shards:
                if not run.may_go_on():
                    return False
                async with run.turn() as store:
                    count = min(shards_a_call, len(open_shards))
                    shards = [open_shards.popleft() for _ in range(count)]
                    if shards:
                        await self._step(run, store, source, shards)
                open_shards.extendleft(
                    shard for shard in reversed(shards) if positions[shard] != ENDED
                )
        except StoreUnavailable:
            raise
        except Exception:
            if shards_a_call == 1:
                raise
            lanes = [self._lane(run, source, deque([shard]), 1) for shard in shards]
            return await _all_end([*lanes, self._lane(run, source, open_shards, shards_a_call)])
        return True

    async def _step(self, run: Run, store: Store, source: Source, shards: list[int]) -> None:
        """Make one call, for a chunk of a source's followers in some shards."""
        job, progress = run.job, run.progress
        if job.kind is Kind.DELIVER and not source.pulled:
            await self._push(run, store, source, shards)
            return
        positions = progress.of(source)
        old_positions = {shard: positions.get(shard, BEGINNING) for shard in shards}
        if job.kind is Kind.FLIP:
            flipped = await flips.flip(store, source, job.subject, old_positions, run.budget())
            progress.seen += sum(edge_count for _, edge_count in flipped)
            new_positions = [position for position, _ in flipped]
        else:
            kind = "removed" if job.kind is Kind.RETRACT else "added"
            arguments: list[Arg] = [source.entity, job.subject, kind, run.budget()]
            answers = await store.script("announce", shards, *arguments, *old_positions.values())
            progress.announced += sum(entity_count for _, entity_count in answers)
            new_positions = [position.decode() for position, _ in answers]
        positions.update(zip(shards, new_positions, strict=True))

    async def _push(
        self,
        run: Run,
        store: Store,
        source: Source,
        shards: list[int],
        end_in_era: str | None = None,
    ) -> bool:
        """Push to a chunk of followers; return whether the same call has ended the job.

        With ``end_in_era`` the call ends the job if no follower remains and the store still has
        that era.
        """
        progress = run.progress
        positions = progress.of(source)
        script_shards, to_end_job = shards, list[Arg]()
        if end_in_era is not None:
            script_shards = [*shards, self._jobs.shard(run.job)]
            to_end_job = [run.job.encode(), end_in_era, int(store.lossy)]
        budget = run.budget()
        *answers, job_ended = await store.script(
            *("push", script_shards, source.entity, run.job.subject, budget, len(shards)),
            *[positions.get(shard, BEGINNING) for shard in shards],
            *to_end_job,
            cost=self._sizes.expected(source.entity, len(shards), len(source.shards), budget),
        )
        progress.note_pushed(source, shards, answers)
        return bool(job_ended)


def _shards_a_call(store: Store) -> int:
    """Return the most shards that one call may work on."""
    return 1 if store.cluster else SHARDS_A_CALL


def _all_pushed(progress: Progress, addressed: Iterable[Source]) -> bool:
    """Return whether all pushes have ended; announcements may remain."""
    return all(
        progress.of(source).get(shard) == ENDED
        for source in addressed
        if not source.pulled
        for shard in source.shards
    )


async def _all_end(lanes: Iterable[Coroutine[Any, Any, bool]]) -> bool:
    """Return whether the work of all lanes has ended; raise the first error after the last lane."""
    results = await asyncio.gather(*lanes, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return all(results)
