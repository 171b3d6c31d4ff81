"""Jobs in the store: what is still to be delivered, stored beside what was published.

A job is made in the same step as what it delivers. For a moment it belongs to the process that
serves the call. If that process does not end it soon, the job goes to its shard's queue, where
workers take it, note how far they have come, and take it over from each other.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedsvc.core import ids, keys
from feedsvc.core.job import Delivery, Job, Kind, Progress, State
from feedsvc.core.store import Arg, Store
from feedsvc.core.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job in a queue, or set aside."""

    job: Job
    queued_ms: int
    """When it was queued, in Unix milliseconds."""
    feeds: int
    cold: int
    attempts: int
    """Number of attempts that failed."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was set aside after too many failed attempts."""

    id: str
    """``<shard>-<milliseconds>-<number>``."""
    open: OpenJob
    error: str
    failed_ms: int
    """When it was set aside, in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class FanoutStatus:
    """How the deliveries stand, over all shards."""

    waiting: int
    running: int
    inline: int
    dead: int
    rate: float
    """Followers that workers reached a second, over the last minute."""
    lag_ms: int
    """Age of the oldest unfinished job, in milliseconds."""
    oldest: OpenJob | None


@dataclass(slots=True)
class TakenJob:
    """A job in the hands of a worker."""

    job: Job
    name: str
    worker: str
    shard: int
    incarnation: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker may take."""

    jobs: int
    of_an_author: int
    """Most jobs of one author that the worker may have, those that it has included."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Number of jobs that it has, by author."""
    blame: bool = True
    """True to count a lease that ran out as a failure of its job."""
    everything: bool = False
    """True to take also the jobs that other workers are doing."""


class JobLost(Exception):
    """The job is not the worker's any more: its lease ran out, or the store lost recent writes."""


class Jobs:
    """The jobs of a store, each in the shard of its subject."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watch = Watch(self.deliveries)
        self.queued = asyncio.Event()
        """Set when this process puts a job into a queue."""
        self.queued_in = set[int]()
        """The shards of those queues, until a worker looks at them."""

    def shard(self, job: Job) -> int:
        """Return the shard that a job is stored in."""
        if job.kind is Kind.FLIP:
            return self._store.shard_for(job.actor)
        return ids.shard_of(job.subject)

    # For the process that made the job.

    async def done(self, job: Job, incarnation: str) -> bool:
        """End a job; return whether the store still has what was done of it."""
        lossy = int(self._store.lossy)
        answer = await self._store.script(
            "job_done", self.shard(job), job.encode(), incarnation, lossy
        )
        return bool(answer)

    async def spill(self, job: Job, incarnation: str, progress: Progress, state: State) -> None:
        """Leave a job to the workers; until they end it, its state is ``queued`` or ``pulled``."""
        await self._store.script(
            "job_spill", self.shard(job), job.encode(), incarnation, *progress.fields(), state
        )
        self.look_at(self.shard(job))

    def look_at(self, shard: int) -> None:
        """Wake the workers of this process: a shard's queue has a job."""
        self.queued_in.add(shard)
        self.queued.set()

    def drain(self) -> None:
        """Answer all callers that wait for a delivery at once: the server is stopping."""
        self._watch.drain()

    async def delivery(self, job: Job) -> Delivery:
        """Return how far a delivery has come."""
        (delivery,) = await self.deliveries([job])
        return delivery

    async def deliveries(self, jobs: Sequence[Job]) -> list[Delivery]:
        """Return how far some deliveries have come, in order."""
        if not self._store.cluster:
            return await self._read(jobs)
        parts = await asyncio.gather(*(self._read([job]) for job in jobs))
        return [delivery for part in parts for delivery in part]

    async def _read(self, jobs: Sequence[Job]) -> list[Delivery]:
        """Do the work of ``deliveries`` by one call."""
        shards = [self.shard(job) for job in jobs]
        texts = [job.encode() for job in jobs]
        answers = await self._store.script("job_read", shards, *texts)
        return [_delivery(*answer) for answer in answers]

    async def wait(self, job: Job, delivery: Delivery, seconds: float) -> Delivery:
        """Wait for the end of a queued delivery, at most so long; return how far it has come.

        If the store does not answer meanwhile, the wait only takes longer.
        """
        return await self._watch.ended(job, delivery, seconds)

    async def close(self) -> None:
        """Stop looking at deliveries that callers wait for."""
        await self._watch.close()

    # For workers.

    async def take(
        self,
        store: Store,
        worker: str,
        shards: Sequence[int],
        share: Share,
    ) -> tuple[list[TakenJob], list[int]]:
        """Take jobs from shards in turn; also return the shards in which more jobs wait."""
        taken: list[TakenJob] = []
        waiting: list[int] = []
        groups = [[shard] for shard in shards] if store.cluster else [list(shards)]
        held = [part for author_and_count in share.held.items() for part in author_and_count]
        flags = (share.of_an_author, int(share.blame), int(share.everything))
        while groups:
            free = share.jobs - len(taken)
            if free <= 0:
                waiting += [shard for group in groups for shard in group]
                break
            asked, groups = groups[:free], groups[free:]
            answers = await asyncio.gather(
                *(
                    store.script("jobs_take", group, worker, free // len(asked), *flags, *held)
                    for group in asked
                )
            )
            for group, (jobs, more) in zip(asked, answers, strict=True):
                waiting += [group[number - 1] for number in more]
                taken += [
                    _taken(fields, worker, shard, era.decode())
                    for number, *fields, era in jobs
                    for shard in (group[number - 1],)
                ]
        return taken, waiting

    async def checkpoint(self, store: Store, taken: TakenJob, *, keep: bool = True) -> None:
        """Note how far a job has come and, with ``keep``, renew its lease. Raise JobLost."""
        await self._as_owner(store, "job_checkpoint", taken, *taken.progress.fields(), int(keep))

    async def leave(self, store: Store, taken: TakenJob) -> None:
        """Give up a job that cannot be checkpointed, without counting that as its failure."""
        await store.script("job_leave", taken.shard, taken.name, taken.worker)

    async def finish(self, store: Store, taken: TakenJob, state: State) -> None:
        """End a job. Raise JobLost."""
        outcome = (*taken.progress.numbers(), state, int(store.lossy))
        await self._as_owner(store, "job_finish", taken, *outcome)
        self._watch.look(taken.job)

    async def fail(self, store: Store, taken: TakenJob, error: str) -> None:
        """Note a failed attempt; after too many the job is set aside as a dead letter."""
        if await store.script(
            *("job_fail", taken.shard, taken.name, taken.worker, taken.incarnation),
            *(*taken.progress.fields(), error),
        ):
            log.error("a job was set aside: %s", taken.name)

    async def _as_owner(self, store: Store, script: str, taken: TakenJob, *arguments: Arg) -> None:
        if not await store.script(
            script, taken.shard, taken.name, taken.worker, taken.incarnation, *arguments
        ):
            raise JobLost

    # For operators.

    async def status(self) -> FanoutStatus:
        """Return how the deliveries stand."""
        shards = await self._store.each_shard("jobs_status")
        waiting = running = inline = dead = reached = lag = 0
        oldest: OpenJob | None = None
        for due, queued, taken, letters, now_ms, followers, first_due, *first in shards:
            inline, dead, reached = inline + due, dead + letters, reached + followers
            running += taken
            waiting += queued - taken
            if first_due:
                made_ms = int(float(first_due) - self._store.limits.job_lease * 1000)
                lag = max(lag, now_ms - made_ms)
            if first and first[0] is not None:
                text, *numbers = first
                job = OpenJob(Job.decode(text), *map(int, numbers))
                lag = max(lag, now_ms - job.queued_ms)
                if oldest is None or job.queued_ms < oldest.queued_ms:
                    oldest = job
        return FanoutStatus(waiting, running, inline, dead, reached / 60, max(0, lag), oldest)

    async def dead_letters(self, after: str, count: int) -> list[DeadLetter]:
        """Return up to ``count`` dead letters after a letter's id, or from the first on."""
        first_shard, _, entry_id = after.partition("-")
        letters: list[DeadLetter] = []
        for shard in range(int(first_shard or 0), self._store.limits.shards):
            missing = count - len(letters)
            if not missing:
                break
            entries = await self._store.call(
                *("XRANGE", keys.dead(self._store.tags[shard])),
                *(f"({entry_id}" if entry_id else "-", "+", "COUNT", missing),
            )
            entry_id = ""
            letters += [_letter(shard, *entry) for entry in entries]
        return letters

    async def replay(self, letter_id: str) -> bool:
        """Put a dead letter back into its queue; return whether it existed."""
        shard, _, entry_id = letter_id.partition("-")
        if int(shard) >= self._store.limits.shards:
            return False
        existed = await self._store.script("dead_replay", int(shard), entry_id)
        self.look_at(int(shard))
        return bool(existed)

    async def discard(self, letter_id: str) -> bool:
        """Throw a dead letter away; return whether it existed."""
        shard, _, entry_id = letter_id.partition("-")
        if int(shard) >= self._store.limits.shards:
            return False
        return bool(await self._store.script("dead_discard", int(shard), entry_id))


def _taken(fields: Sequence[bytes], worker: str, shard: int, incarnation: str) -> TakenJob:
    text, *progress = fields
    job = Job.decode(text)
    return TakenJob(job, job.name, worker, shard, incarnation, Progress.decode(*progress))


def _delivery(state: bytes, *fields: bytes) -> Delivery:
    """Return what the answer of ``job_read.lua`` means."""
    match state:
        case b"":
            return Delivery(state="pulled" if fields[0] == b"1" else "delivered", counted=False)
        case b"due":
            return Delivery(state="queued", counted=False)
        case _:
            feeds, cold, audience = (int(number or 0) for number in fields)
            return Delivery(feeds, cold, audience, state.decode())  # type: ignore[arg-type]


def _letter(shard: int, entry_id: bytes, flat: Sequence[bytes]) -> DeadLetter:
    fields: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = (int(fields[name]) for name in (b"since", b"feeds", b"cold", b"tries"))
    return DeadLetter(
        f"{shard}-{entry_id.decode()}",
        OpenJob(Job.decode(fields[b"job"]), *numbers),
        fields[b"error"].decode(),
        int(entry_id.split(b"-")[0]),
    )
