"""Fan-out: what is published is delivered to the feeds of followers, what is deleted retracted.

The process that publishes works on its job at once, up to a bound; workers go on with the rest.
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
    """How a process goes about a job."""

    job: Job
    progress: Progress
    turn: Callable[[], AbstractAsyncContextManager[Store]]
    """Waits until a call may be made, and gives the connection for it."""
    budget: Callable[[], int]
    """Returns the work of the next call, in followers."""
    may_go_on: Callable[[], bool] = lambda: True
    """Returns whether another call may be made."""

    def open_shards(self, source: Source) -> deque[int]:
        """Return the shards of a source in which the job has not ended."""
        positions = self.progress.of(source)
        return deque(shard for shard in source.shards if positions.get(shard) != ENDED)


class Sizes:
    """Remembers how many followers entities had when something was last delivered to them."""

    def __init__(self) -> None:
        self._followers: dict[str, int] = {}

    def expected(self, entity: str, shards: int, of: int, most: int) -> int:
        """Estimate the followers in ``shards`` of the ``of`` shards of an entity.

        Return ``most`` if nothing is known of the entity, and never more.
        """
        if not shards:
            return 0
        followers = self._followers.get(entity)
        return most if followers is None else min(most, math.ceil(followers * shards / of))

    def at_once(self, entity: str, most: int) -> tuple[int, int]:
        """Return the work that the step which publishes takes upon itself, and its cost.

        That is all the work or, where the followers are more than ``most``, none.
        """
        followers = self._followers.get(entity)
        if followers is None:
            return min(most, UNKNOWN_BUDGET), min(most, UNKNOWN_COST)
        return (most, followers) if followers <= most else (0, 0)

    def note(self, entity: str, followers: int) -> None:
        """Remember the number of an entity's followers; the entity noted longest ago goes."""
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

    def at_once(self, actor: str) -> tuple[int, int]:
        """Return the work that the step which publishes takes upon itself, and its cost."""
        if self._store.cluster:
            return 0, 0
        limits = self._store.limits
        most = min(limits.step_audience, limits.push_chunk, limits.inline_audience)
        return self._sizes.at_once(actor, most)

    def pushed(self, own: Source, answers: Sequence[Any], *, ended: bool) -> Progress:
        """Return how far the step that published has delivered by itself."""
        progress = Progress()
        if answers:
            progress.note_pushed(own, own.shards, answers)
        if ended and not own.pulled:
            self._sizes.note(own.entity, progress.seen)
        return progress

    async def inline(
        self, job: Job, own: Source | None, incarnation: str, progress: Progress | None = None
    ) -> Delivery:
        """Work on a job while its caller waits; if that takes too long, workers go on.

        ``own`` is the actor as the step that made the job saw it, ``progress`` how far that step
        has come, and ``incarnation`` the store's era from before that step. If an error comes in
        between, the job stays in the store and is taken over.
        """
        progress = progress or Progress()
        try:
            return await self._inline(job, own, incarnation, progress)
        except StoreUnavailable:
            return progress.delivery("queued")
        except Exception:
            log.exception("a delivery failed and will be tried again")
            with suppress(StoreUnavailable, RedisError):  # then a worker takes the job over
                await self._jobs.spill(job, incarnation, progress, "queued")
            return progress.delivery("queued")

    async def _inline(
        self, job: Job, own: Source | None, incarnation: str, progress: Progress
    ) -> Delivery:
        limits = self._store.limits
        if own and not job.to:
            addressed = [own]
        else:
            addressed = await self.sources(self._store, job, own)
        progress.held = bool(addressed) or job.kind is not Kind.DELIVER
        pulled = any(source.pulled for source in addressed)
        budget = self._inline_budget(addressed)
        run = Run(
            job,
            progress,
            lambda: nullcontext(self._store),
            lambda: budget,
            may_go_on=lambda: progress.seen + progress.announced < limits.inline_audience,
        )
        job_ended = False
        if run.may_go_on() and self._fits_one_call(job, addressed):
            (source,) = addressed
            if shards := run.open_shards(source):
                job_ended = await self._push(
                    run, self._store, source, list(shards), end=incarnation
                )
        work_ended = job_ended or await self.work(run, addressed)
        # Other jobs, and sources that are pulled, count nobody.
        if job.kind is Kind.DELIVER and len(addressed) == 1 and not pulled:
            self._sizes.note(addressed[0].entity, progress.seen)
        if pulled or not work_ended or 0 < limits.celebrity_threshold <= progress.seen:
            await self.count(self._store, addressed, progress)
        if not work_ended:
            state: State = "pulled" if pulled and _all_pushed(progress, addressed) else "queued"
            await self._jobs.spill(job, incarnation, progress, state)
            return progress.delivery(state)
        if not job_ended and not await self._jobs.done(job, incarnation):
            # The store has lost recent writes, or all: the delivery starts again from nothing.
            await self._jobs.spill(job, incarnation, Progress(), "queued")
            return progress.delivery("queued")
        return progress.delivery("pulled" if pulled else "delivered")

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
        """Count the audience of a job, and begin to flip the followers of a source if due."""
        counts = await asyncio.gather(*(flips.begin_if_due(store, source) for source in addressed))
        progress.audience = sum(followers for followers, _ in counts)
        for source, (_, flip_has_begun) in zip(addressed, counts, strict=True):
            if flip_has_begun:
                self._jobs.look_at(store.shard_for(source.entity))

    async def consider(self, entity: str) -> None:
        """Begin to flip an entity's followers if their number calls for it."""
        await self.count(self._store, await sources.read(self._store, [entity]), Progress())

    async def sources(self, store: Store, job: Job, own: Source | None = None) -> list[Source]:
        """Return the sources that a job addresses.

        What is published ``to`` entities is put into their outboxes; what is deleted is announced
        as removed in the logs of the sources themselves.
        """
        addressed = [own] if own is not None else []
        if own is None and job.actor:
            addressed = await sources.read(store, [job.actor])
        others = [entity for entity in job.to if entity != job.actor]
        if job.kind is Kind.DELIVER:
            return addressed + await self._add_to_outboxes(store, others, job.subject)
        addressed += await sources.read(store, others)
        if job.kind is Kind.RETRACT:
            about = f"{job.author}\0{job.external_id}"
            await asyncio.gather(
                *(
                    self._in_shard_of(store, "retract", source.entity, job.subject, about)
                    for source in addressed
                )
            )
        return addressed

    async def _add_to_outboxes(
        self, store: Store, entities: Sequence[str], activity_id: int
    ) -> list[Source]:
        """Put an activity into outboxes; return those entities whose outbox takes it."""
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
        """Go on with a job; return whether its work has ended.

        If the work fails in one shard, the others go on before the first error is raised.
        """
        shards_a_call = _shards_a_call(self._store)
        if run.progress.audience:  # a call takes no more shards than its budget covers
            shards = max(1, sum(len(source.shards) for source in addressed))
            followers_a_shard = max(1.0, run.progress.audience / shards)
            shards_a_call = max(1, min(shards_a_call, int(run.budget() / followers_a_shard) + 1))
        return await _all_end(
            self._lane(run, source, shards_left, shards_a_call)
            for source, shards_left in [(source, run.open_shards(source)) for source in addressed]
            for _ in range(math.ceil(len(shards_left) / shards_a_call))
        )

    async def _lane(
        self, run: Run, source: Source, shards_left: deque[int], shards_a_call: int
    ) -> bool:
        """Work call by call on the shards that are left; return whether none is left.

        Other lanes take from the same shards. Shards that a call did not end are the first of a
        later call.
        """
        positions = run.progress.of(source)
        shards = list[int]()
        try:
            while shards_left:
                if not run.may_go_on():
                    return False
                async with run.turn() as store:
                    count = min(shards_a_call, len(shards_left))
                    shards = [shards_left.popleft() for _ in range(count)]
                    if shards:
                        await self._step(run, store, source, shards)
                shards_left.extendleft(
                    shard for shard in reversed(shards) if positions[shard] != ENDED
                )
        except StoreUnavailable:
            raise
        except Exception:
            if shards_a_call == 1:
                raise
            lanes = [self._lane(run, source, deque([shard]), 1) for shard in shards]
            return await _all_end([*lanes, self._lane(run, source, shards_left, shards_a_call)])
        return True

    async def _step(self, run: Run, store: Store, source: Source, shards: list[int]) -> None:
        """Make one call, for a chunk of a source's followers in some shards."""
        job, progress = run.job, run.progress
        if job.kind is Kind.DELIVER and not source.pulled:
            await self._push(run, store, source, shards)
            return
        positions = progress.of(source)
        begin = {shard: positions.get(shard, BEGINNING) for shard in shards}
        if job.kind is Kind.FLIP:
            flipped = await flips.flip(store, source, job.subject, begin, run.budget())
            progress.seen += sum(edges for _, edges in flipped)
            reached = [position for position, _ in flipped]
        else:
            kind = "removed" if job.kind is Kind.RETRACT else "added"
            arguments: list[Arg] = [source.entity, job.subject, kind, run.budget()]
            answers = await store.script("announce", shards, *arguments, *begin.values())
            progress.announced += sum(entities for _, entities in answers)
            reached = [position.decode() for position, _ in answers]
        positions.update(zip(shards, reached, strict=True))

    async def _push(
        self,
        run: Run,
        store: Store,
        source: Source,
        shards: list[int],
        end: str | None = None,
    ) -> bool:
        """Push to a chunk of followers; return whether the same call has ended the job.

        That is tried only with an era as ``end``, and done if no follower is left.
        """
        progress = run.progress
        positions = progress.of(source)
        tags_of, to_end_job = shards, list[Arg]()
        if end is not None:
            tags_of = [*shards, self._jobs.shard(run.job)]
            to_end_job = [run.job.encode(), end, int(store.lossy)]
        budget = run.budget()
        *answers, job_ended = await store.script(
            *("push", tags_of, source.entity, run.job.subject, budget, len(shards)),
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
    """Return whether nothing is left to push; announcing may go on."""
    return all(
        progress.of(source).get(shard) == ENDED
        for source in addressed
        if not source.pulled
        for shard in source.shards
    )


async def _all_end(lanes: Iterable[Coroutine[Any, Any, bool]]) -> bool:
    """Return whether the work of all lanes has ended; raise the first error when all returned."""
    results = await asyncio.gather(*lanes, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return all(results)
