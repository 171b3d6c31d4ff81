"""Workers: they do the jobs that no caller waits for.

A process takes a few dozen jobs at a time and works on all of them in turns, so that a large job
does not hold up a small job. The workers make their calls on a few connections of their own. While
the process serves callers, each of these calls takes the store a fraction of a millisecond.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

from feedsvc.core import background, keys
from feedsvc.core.fanout import Fanout, Run
from feedsvc.core.job import Kind
from feedsvc.core.jobs import JobLost, Jobs, Share, TakenJob
from feedsvc.core.log_limits import log_failure
from feedsvc.core.store import Store
from feedsvc.core.turns import Turns
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Most jobs that one process holds at a time, and most of these jobs that may be of one author.
JOBS_AT_ONCE, JOBS_OF_AN_AUTHOR = 64, 8
#: Followers that one call works on while this process serves callers (its workers then make one
#: call at a time), and followers that one call works on while the process is calm.
CHUNK, CALM_CHUNK = 90, 200
#: Batches a second for callers below which a process is calm (a single caller may publish to very
#: many followers, one activity after another), and seconds over which the batches are counted.
CALM_RATE, CALM_SECONDS = 300, 0.1
#: Seconds between looks at the queues; number of the shards in order that each look includes; and
#: most shards of a look together with the shards in which jobs are known to wait.
LOOK_SECONDS, LOOK_SHARDS, LOOK_SHARDS_AT_MOST = 0.05, 16, 32
#: Seconds after which a store that did not answer is tried again.
TRY_AGAIN_SECONDS = 0.5


class Workers:
    """The workers of a process."""

    def __init__(self, store: Store, fanout: Fanout, jobs: Jobs, serving_store: Store) -> None:
        """``serving_store`` is the connection over which this process serves callers."""
        self._store = store
        self._serving_store = serving_store
        self._fanout = fanout
        self._jobs = jobs
        self._name = secrets.token_hex(6)
        self._tasks: dict[asyncio.Task[None], str] = {}
        """By task, the author of its job."""
        self._looking: asyncio.Task[None] | None = None
        self._turns = Turns()
        self._turns.put(store)
        self._alone = asyncio.Lock()
        self._calm = False
        """True while this process serves almost no callers."""
        self._batches, self._counted_at = 0, 0.0
        self._next_shard = 0
        """The shard at which the next look in order begins."""
        self._first_shard = 0
        """The shard that is the first to give a job."""
        self._away_at = -math.inf
        """The time by the loop's clock when the store last did not answer."""

    def start(self, workers: int) -> None:
        """Begin to work, by up to ``workers`` calls at a time, each on a connection of its own."""
        for _ in range(workers - 1):
            self._turns.put(self._store.sibling())
        self._looking = background.supervised("looking for jobs", self._look)

    async def close(self) -> None:
        """Stop; jobs that are not finished are left to other processes."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def work(self, *, everything: bool = False) -> int:
        """Do all jobs that wait, once; return their number.

        ``everything`` includes the jobs that other processes are doing.
        """
        done = 0
        while taken_jobs := await self.take(everything=everything):
            await asyncio.gather(*map(self.do, taken_jobs))
            done += len(taken_jobs)
        return done

    async def take(
        self, shards: Sequence[int] | None = None, *, everything: bool = False
    ) -> list[TakenJob]:
        """Take as many jobs as this process may hold, from the given or all shards in turn."""
        count = self._store.limits.shards
        if shards is None:
            shards = self._in_turn(range(count))
        free = JOBS_AT_ONCE - len(self._tasks)
        # While the store did not answer, no worker could renew its leases.
        may_blame = self._now() - self._away_at > self._store.limits.job_lease
        held = Counter(self._tasks.values())
        share = Share(free, JOBS_OF_AN_AUTHOR, held, may_blame, everything)
        taken_jobs, waiting = await self._jobs.take(self._store, self._name, shards, share)
        self._jobs.queued_in.update(waiting)
        if taken_jobs:
            self._first_shard = (taken_jobs[-1].shard + 1) % count
        return taken_jobs

    def next_shards(self) -> list[int]:
        """Return the shards to look at next, in the order of their turns."""
        candidates, count = self._jobs.queued_in, self._store.limits.shards
        for _ in range(min(LOOK_SHARDS, count)):
            candidates.add(self._next_shard)
            self._next_shard = (self._next_shard + 1) % count
        shards = self._in_turn(candidates)[:LOOK_SHARDS_AT_MOST]
        candidates.difference_update(shards)
        return shards

    def _in_turn(self, shards: Iterable[int]) -> list[int]:
        count = self._store.limits.shards
        return sorted(shards, key=lambda shard: (shard - self._first_shard) % count)

    async def _look(self) -> None:
        while True:
            self._jobs.queued.clear()
            pause, taken_jobs = LOOK_SECONDS, list[TakenJob]()
            try:
                if len(self._tasks) < JOBS_AT_ONCE:
                    taken_jobs = await self.take(self.next_shards())
            except StoreUnavailable:
                self._note_away()
                pause = TRY_AGAIN_SECONDS
            except Exception as error:  # noqa: BLE001 (the next look may succeed)
                log_failure(log, "looking for jobs failed; trying again", error)
                pause = TRY_AGAIN_SECONDS
            for taken in taken_jobs:
                task = asyncio.create_task(self.do(taken))
                self._tasks[task] = taken.job.author
                task.add_done_callback(self._ended)
            if not taken_jobs:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._jobs.queued.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self._jobs.queued_in:  # a waiting job may take the place of the ended job
            self._jobs.queued.set()

    def _note_away(self) -> None:
        self._away_at = self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def do(self, taken: TakenJob) -> None:
        """Do a job as far as possible: finish it, note its failure, or leave it to others."""
        keeping = asyncio.create_task(self._keep(taken))
        working = asyncio.create_task(self._deliver(taken))
        try:
            await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
            ended, other = (working, keeping) if working.done() else (keeping, working)
            await _cancelled(other)  # the work stops when the job's lease is lost
            ended.result()
        except asyncio.CancelledError:
            await _cancelled(working)
            await _cancelled(keeping)
            with contextlib.suppress(StoreUnavailable):
                await self._leave(taken)
            raise
        except JobLost:
            await self._leave_in_time(taken, 0.0)
        except StoreUnavailable:
            is_lost = self._store.eras[taken.shard] != taken.era
            await self._leave_in_time(taken, 0.0 if is_lost else TRY_AGAIN_SECONDS)
        except Exception as error:  # noqa: BLE001 (the job has a number of attempts)
            try:
                await self._jobs.fail(self._store, taken, error)
            except StoreUnavailable:
                await self._leave_in_time(taken, TRY_AGAIN_SECONDS)

    async def _leave_in_time(self, taken: TakenJob, pause: float) -> None:
        """Leave a job to others after a pause, or when the store answers again.

        A lease that runs out counts as a failed attempt of the job; a store that is away must not.
        """
        while True:
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                with contextlib.suppress(StoreUnavailable):
                    await self._leave(taken)
                raise
            try:
                await self._leave(taken)
            except StoreUnavailable:
                pause = TRY_AGAIN_SECONDS
            else:
                return

    async def _leave(self, taken: TakenJob) -> None:
        """Leave a job to others."""
        try:
            try:
                await self._jobs.checkpoint(self._store, taken, keep=False)
            except JobLost:
                await self._jobs.leave(self._store, taken)
        except StoreUnavailable:
            self._note_away()
            raise

    async def _deliver(self, taken: TakenJob) -> None:
        """Do the work of a job from its resume positions on, and finish the job."""
        job, progress = taken.job, taken.progress
        if job.kind is Kind.DELIVER and not await self._exists(job.subject):
            await self._jobs.finish(self._store, taken, "delivered")
            return
        sources = await self._fanout.sources(self._store, job)
        if job.kind is Kind.FLIP and sources[0].epoch != job.subject:
            sources = []  # a later flip has replaced this one
        elif job.kind is Kind.DELIVER and progress.audience is None:
            await self._fanout.count(self._store, sources, progress)
        run = Run(job, progress, lambda: self._turn(taken), self._next_budget)
        await self._fanout.work(run, sources)
        is_pulled = job.kind is Kind.DELIVER and any(source.pulled for source in sources)
        await self._jobs.finish(self._store, taken, "pulled" if is_pulled else "delivered")
        if job.kind is Kind.FLIP:  # a flip back may have become due meanwhile
            await self._fanout.flip_if_due(job.actor)

    @contextlib.asynccontextmanager
    async def _turn(self, taken: TakenJob) -> AsyncIterator[Store]:
        """Wait for a free connection to the store that the job was taken from.

        In a failover the connection may still lead to the old primary: work done there is lost, but
        would count as done. Raise StoreUnavailable.
        """
        store = await self._turns.take(taken.job.author)
        try:
            async with contextlib.nullcontext() if self._calm else self._alone:
                if store.eras[taken.shard] != taken.era:
                    await store.connect_again()
                if store.eras[taken.shard] != taken.era:
                    raise StoreUnavailable("the job is another store's")
                yield store
        finally:
            self._turns.put(store)

    def _next_budget(self) -> int:
        """Return the number of followers that the next call works on."""
        now = self._now()
        if now - self._counted_at >= CALM_SECONDS:
            batches = self._serving_store.batches
            rate = (batches - self._batches) / (now - self._counted_at)
            self._calm = rate < CALM_RATE
            self._batches, self._counted_at = batches, now
        return min(CALM_CHUNK if self._calm else CHUNK, self._store.limits.push_chunk)

    async def _exists(self, activity_id: int) -> bool:
        """Return whether an activity exists: a deleted activity is delivered to nobody."""
        (key,) = keys.activities(self._store.tags, [activity_id])
        return bool(await self._store.call("STRLEN", key))

    async def _keep(self, taken: TakenJob) -> None:
        """Renew a job's lease from time to time, and note how far the job has come."""
        while True:
            await asyncio.sleep(self._store.limits.job_lease / 4)
            try:
                await self._jobs.checkpoint(self._store, taken)
            except StoreUnavailable:
                self._note_away()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    background.mark_retrieved(task)
