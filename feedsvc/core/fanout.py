"""Fan-out: brings what was published to the outboxes and feeds that it belongs in.

A script works beside the data, one call for a chunk of followers. Small audiences are reached while
the caller waits, larger ones by workers (``worker.py``). All of it may be done again without harm,
and its job (``jobs.py``) stays until it has been done.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import RedisError

from feedsvc.core import flips, ids, sources
from feedsvc.core.jobs import Delivery, Job, Jobs, Kind, Progress, State, text_of
from feedsvc.core.sources import Source
from feedsvc.core.store import Arg, Store
from feedsvc.core.tasks import retrieved
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Shards that one call works on at most, where keys may be of several slots.
SHARDS_A_CALL = 16

#: Entities whose followers are remembered by their number, for what a push to them costs.
REMEMBERED = 10_000

#: Work that the step which publishes takes upon itself, in followers, and what is expected of it,
#: while it is not known how many there are.
UNKNOWN_BUDGET, UNKNOWN_COST = 64, 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """How a process goes about a job."""

    job: Job
    progress: Progress
    turn: Callable[[], AbstractAsyncContextManager[Store]]
    """Waits until a call may be made, and gives the connection for it."""
    budget: Callable[[], int]
    """The work of the next call, in followers."""
    go_on: Callable[[], bool] = lambda: True
    """Whether to make another call."""


class Sizes:
    """How many followers entities had when something was last delivered to them."""

    def __init__(self) -> None:
        self._followers: dict[str, int] = {}

    def expected(self, entity: str, shards: int, of: int, most: int) -> int:
        """Estimate the followers in some of the shards of an entity; ``most``, if unknown."""
        if not shards:
            return 0
        followers = self._followers.get(entity)
        return most if followers is None else min(most, math.ceil(followers * shards / of))

    def at_once(self, entity: str, most: int) -> tuple[int, int]:
        """Say how much work the step that publishes is to take upon itself, and its cost.

        That is all of it or, where the followers are more than ``most``, nothing.
        """
        followers = self._followers.get(entity)
        if followers is None:
            return min(most, UNKNOWN_BUDGET), min(most, UNKNOWN_COST)
        return (most, followers) if followers <= most else (0, 0)

    def note(self, entity: str, followers: int) -> None:
        """Remember the followers of an entity, of the latest few thousand entities."""
        self._followers.pop(entity, None)
        self._followers[entity] = followers
        if len(self._followers) > REMEMBERED:
            del self._followers[next(iter(self._followers))]


class Fanout:
    """Deliveries and retractions, and the work under way that must come to its end."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store = store
        self._jobs = jobs
        self._sizes = Sizes()
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work to its end whether or not the caller waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        retrieved(task)

    async def drain(self) -> None:
        """Waits until all that was begun has ended."""
        while self._running:
            await asyncio.wait(self._running)

    def at_once(self, actor: str) -> tuple[int, int]:
        """Say how much work the step that publishes is to take upon itself, and its cost."""
        if self._store.cluster:
            return 0, 0
        limits = self._store.limits
        most = min(limits.step_audience, limits.push_chunk, limits.inline_audience)
        return self._sizes.at_once(actor, most)

    def pushed(self, own: Source, results: Sequence[Any], *, ended: bool) -> Progress:
        """Take down how far the step that published has delivered by itself."""
        progress = Progress()
        if results:
            _note(progress, own, own.shards, results)
        if ended and not own.pulled:
            self._sizes.note(own.entity, progress.seen)
        return progress

    async def inline(
        self, job: Job, own: Source | None, incarnation: str, progress: Progress | None = None
    ) -> Delivery:
        """Does a job while its caller waits; if that takes too long, workers go on.

        ``own`` is the actor as the step that made the job saw it, and ``progress`` how far that
        step has come with it; ``incarnation`` is the store's from before that step. Whatever goes
        wrong, the job stays, and is taken over.
        """
        progress = progress or Progress()
        try:
            return await self._inline(job, own, incarnation, progress)
        except StoreUnavailable:
            return progress.delivery("queued")
        except Exception:
            log.exception("a delivery failed and will be tried again")
            with suppress(StoreUnavailable, RedisError):  # then it is taken over
                await self._jobs.spill(job, incarnation, progress, "queued")
            return progress.delivery("queued")

    async def _inline(
        self, job: Job, own: Source | None, incarnation: str, progress: Progress
    ) -> Delivery:
        limits = self._store.limits
        found = [own] if own and not job.to else await self.sources(self._store, job, own)
        progress.held = bool(found) or job.kind is not Kind.DELIVER
        pulled = any(one.pulled for one in found)
        lanes = sum(math.ceil(len(one.shards) / _together(self._store)) for one in found)
        each = max(1, min(limits.push_chunk, math.ceil(limits.inline_audience / max(1, lanes))))
        run = Run(
            job,
            progress,
            lambda: nullcontext(self._store),
            lambda: each,
            go_on=lambda: progress.seen + progress.told < limits.inline_audience,
        )
        over = False
        if run.go_on() and self._at_once(job, found) and (left := _left(run, found[0])):
            over = await self._push(run, self._store, found[0], list(left), end=incarnation)
        ended = over or await self.work(run, found)
        if job.kind is Kind.DELIVER and len(found) == 1 and not pulled:  # others count nobody
            self._sizes.note(found[0].entity, progress.seen)
        if pulled or not ended or 0 < limits.celebrity_threshold <= progress.seen:
            await self.count(self._store, found, progress)
        if not ended:
            pushed = all(
                progress.of(one).get(shard) == ""
                for one in found
                if not one.pulled
                for shard in one.shards
            )
            state: State = "pulled" if pulled and pushed else "queued"
            await self._jobs.spill(job, incarnation, progress, state)
            return progress.delivery(state)
        if not over and not await self._jobs.done(job, incarnation):
            # The store has lost its last writes, or all: the delivery starts again from nothing.
            await self._jobs.spill(job, incarnation, Progress(), "queued")
            return progress.delivery("queued")
        return progress.delivery("pulled" if pulled else "delivered")

    def _at_once(self, job: Job, found: Sequence[Source]) -> bool:
        """Whether one call may deliver all and end the job too."""
        return (
            not self._store.cluster
            and job.kind is Kind.DELIVER
            and len(found) == 1
            and not found[0].pulled
            and len(found[0].shards) <= SHARDS_A_CALL
        )

    async def count(self, store: Store, found: Sequence[Source], progress: Progress) -> None:
        """Counts the audience, and begins to flip the followers of a source if that is due."""
        counts = await asyncio.gather(*(flips.begin_if_due(store, one) for one in found))
        progress.audience = sum(followers for followers, _ in counts)
        for one, (_, begun) in zip(found, counts, strict=True):
            if begun:
                self._jobs.look_at(ids.shard_for(one.entity, store.limits.shards))

    async def consider(self, entity: str) -> None:
        """Begins to flip an entity's followers if they have become so many, or so few."""
        await self.count(self._store, await sources.read(self._store, [entity]), Progress())

    async def sources(self, store: Store, job: Job, own: Source | None = None) -> list[Source]:
        """Whose followers a job addresses; what is published ``to`` them is in their outboxes."""
        others = [entity for entity in job.to if entity != job.actor]
        if own is not None:
            found = [own]
        else:
            found = await sources.read(store, [job.actor] if job.actor else [])
        if job.kind is Kind.DELIVER:
            added = await asyncio.gather(
                *(self._at(store, "outbox_add", entity, job.subject) for entity in others)
            )
            return found + [
                Source.of(entity, *fields)
                for entity, fields in zip(others, added, strict=True)
                if fields  # else it is too old for the outbox
            ]
        found += await sources.read(store, others)
        if job.kind is Kind.RETRACT:
            about = f"{job.author}\0{job.external_id}"
            await asyncio.gather(
                *(self._at(store, "retract", one.entity, job.subject, about) for one in found)
            )
        return found

    async def _at(self, store: Store, script: str, entity: str, *about: Arg) -> Any:
        """A script about an activity in an entity's shard."""
        shard = ids.shard_for(entity, store.limits.shards)
        return await store.script(script, shard, entity, *about)

    async def work(self, run: Run, found: Sequence[Source]) -> bool:
        """Goes on with a job; says whether it has ended.

        If it fails in one shard, the others go on before the first error is raised.
        """
        together = _together(self._store)
        if run.progress.audience:  # no more than a call can come to
            each = run.progress.audience / max(1, sum(len(one.shards) for one in found))
            together = max(1, min(together, int(run.budget() / max(1.0, each)) + 1))
        return await _all(
            self._lane(run, one, left, together)
            for one, left in [(one, _left(run, one)) for one in found]
            for _ in range(math.ceil(len(left) / together))
        )

    async def _lane(self, run: Run, one: Source, left: deque[int], together: int) -> bool:
        """Goes on with a job for an entity's followers in the shards that are left.

        Other lanes take from the same shards. What a call did not come to is the first of another.
        """
        places = run.progress.of(one)
        shards = list[int]()
        try:
            while left:
                if not run.go_on():
                    return False
                async with run.turn() as store:
                    shards = [left.popleft() for _ in range(min(together, len(left)))]
                    if shards:
                        await self._step(run, store, one, shards)
                left.extendleft(shard for shard in reversed(shards) if places[shard] != "")
        except StoreUnavailable:
            raise
        except Exception:
            if together == 1:
                raise
            works = [self._lane(run, one, deque([shard]), 1) for shard in shards]
            return await _all([*works, self._lane(run, one, left, together)])
        return True

    async def _step(self, run: Run, store: Store, one: Source, shards: list[int]) -> None:
        """One call, for a chunk of an entity's followers in some shards."""
        job, progress = run.job, run.progress
        if job.kind is Kind.DELIVER and not one.pulled:
            await self._push(run, store, one, shards)
            return
        places = progress.of(one)
        begin = {shard: places.get(shard, "-inf") for shard in shards}
        if job.kind is Kind.FLIP:
            flipped = await flips.flip(store, one, job.subject, begin, run.budget())
            progress.seen += sum(seen for _, seen in flipped)
            reached = [place for place, _ in flipped]
        else:
            what = "removed" if job.kind is Kind.RETRACT else "added"
            told = await store.script(
                "tell", shards, one.entity, job.subject, what, run.budget(), *begin.values()
            )
            progress.told += sum(looked for _, looked in told)
            reached = [place.decode() for place, _ in told]
        places.update(zip(shards, reached, strict=True))

    async def _push(
        self, run: Run, store: Store, one: Source, shards: list[int], end: str | None = None
    ) -> bool:
        """Pushes to a chunk of followers.

        With an incarnation as ``end`` the same call ends the job, if nothing is left to do; says
        whether it has.
        """
        progress = run.progress
        places = progress.of(one)
        scope, last = shards, list[Arg]()
        if end is not None:
            scope = [*shards, self._jobs.shard(run.job)]
            last = [text_of(run.job), end, int(store.lossy)]
        budget = run.budget()
        *results, over = await store.script(
            *("push", scope, one.entity, run.job.subject, budget, len(shards)),
            *[places.get(shard, "-inf") for shard in shards],
            *last,
            cost=self._sizes.expected(one.entity, len(shards), len(one.shards), budget),
        )
        _note(progress, one, shards, results)
        return bool(over)


def _together(store: Store) -> int:
    """Shards that one call may work on."""
    return 1 if store.cluster else SHARDS_A_CALL


def _note(
    progress: Progress, source: Source, shards: Sequence[int], results: Sequence[Any]
) -> None:
    """Take down how far pushing has come in some shards."""
    places = progress.of(source)
    for shard, (place, feeds, cold, seen) in zip(shards, results, strict=True):
        places[shard] = place.decode()
        progress.feeds += feeds
        progress.cold += cold
        progress.seen += seen


def _left(run: Run, one: Source) -> deque[int]:
    """The shards in which a job is not done."""
    places = run.progress.of(one)
    return deque(shard for shard in one.shards if places.get(shard) != "")


async def _all(works: Iterable[Coroutine[Any, Any, bool]]) -> bool:
    """Whether all of them say yes; if any fails, its error when all have ended."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return all(results)
