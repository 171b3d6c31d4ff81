"""Jobs in the store: deliveries that have not ended, stored beside their activities.

The step that writes an activity makes its job too. At first the job belongs to the process that
serves the call. If that process does not end the job soon, the job goes to its shard's queue.
Workers take jobs from the queue, note their progress, and take jobs over from each other.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedsvc.core import ids, keys
from feedsvc.core.job import Delivery, Job, Kind, Progress, State
from feedsvc.core.log_limits import LogLimit, Rate, counted
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
    """Numbers of the deliveries under way, over all shards."""

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
    era: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Share:
    """The jobs that a worker may take."""

    jobs: int
    """Most jobs to take."""
    of_an_author: int
    """Most jobs of one author that the worker may hold, with the jobs that it holds already."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Number of jobs that the worker holds, by author."""
    blame: bool = True
    """True to count a lease that ran out as a failure of its job."""
    everything: bool = False
    """True to take also the jobs that other workers are doing."""


#: Budget of the lines about failed attempts of jobs, and about dead letters.
FAILED_JOBS = Rate(20, 10.0)


def _failures_summary(count: int, seconds: int) -> str:
    return f"{counted(count, 'failed attempt')} of deliveries in the last {seconds} s"


_failures = LogLimit(log, _failures_summary, FAILED_JOBS)


class JobLost(Exception):
    """The worker does not hold the job any more: its lease ran out, or the store lost writes."""


class Jobs:
    """The jobs of a store, each in the shard of its subject."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watch = Watch(self.deliveries)
        self.queued = asyncio.Event()
        """Set when this process puts a job into a queue."""
        self.queued_in = set[int]()
        """The shards of the queues that got a job, until a worker looks at them."""

    def shard(self, job: Job) -> int:
        """Return the shard that a job is stored in."""
        if job.kind is Kind.FLIP:
            return self._store.shard_for(job.actor)
        return ids.shard_of(job.subject)

    # For the process that made the job.

    async def done(self, job: Job, era: str) -> bool:
        """End a job; return False if the store has lost the work that was done for the job."""
        lossy = int(self._store.lossy)
        answer = await self._store.script("job_done", self.shard(job), job.encode(), era, lossy)
        return bool(answer)

    async def spill(self, job: Job, era: str, progress: Progress, state: State) -> None:
        """Hand a job to the workers; its state until they end it is ``queued`` or ``pulled``."""
        await self._store.script(
            "job_spill", self.shard(job), job.encode(), era, *progress.fields(), state
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
        """Return how far each delivery has come, in the order of the jobs."""
        if not self._store.cluster:
            return await self._read(jobs)
        parts = await asyncio.gather(*(self._read([job]) for job in jobs))
        return [delivery for part in parts for delivery in part]

    async def _read(self, jobs: Sequence[Job]) -> list[Delivery]:
        """Read how far deliveries have come by one call; on a cluster of one job only."""
        shards = [self.shard(job) for job in jobs]
        texts = [job.encode() for job in jobs]
        answers = await self._store.script("job_read", shards, *texts)
        return [_delivery(*answer) for answer in answers]

    async def wait(self, job: Job, delivery: Delivery, seconds: float) -> Delivery:
        """Wait up to ``seconds`` for a queued delivery to end; return how far it has come.

        If the store does not answer for a while, the end is only noticed later.
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
            for group, (jobs, waiting_indexes, letters) in zip(asked, answers, strict=True):
                for index, text, entry, attempts, error in letters:
                    letter_id = f"{group[index - 1]}-{entry.decode()}"
                    _log_dead_letter(Job.decode(text), letter_id, attempts, error.decode())
                waiting += [group[index - 1] for index in waiting_indexes]
                taken += [
                    _taken(fields, worker, shard, era.decode())
                    for index, *fields, era in jobs
                    for shard in (group[index - 1],)
                ]
        return taken, waiting

    async def checkpoint(self, store: Store, taken: TakenJob, *, keep: bool = True) -> None:
        """Note how far a job has come; renew its lease, or give it back. Raise JobLost."""
        await self._as_owner(store, "job_checkpoint", taken, *taken.progress.fields(), int(keep))

    async def leave(self, store: Store, taken: TakenJob) -> None:
        """Give up a job whose checkpoint failed; this does not count as a failed attempt."""
        await store.script("job_leave", taken.shard, taken.name, taken.worker)

    async def finish(self, store: Store, taken: TakenJob, state: State) -> None:
        """End a job. Raise JobLost."""
        outcome = (*taken.progress.numbers(), state, int(store.lossy))
        await self._as_owner(store, "job_finish", taken, *outcome)
        self._watch.look(taken.job)

    async def fail(self, store: Store, taken: TakenJob, error: Exception) -> None:
        """Note a failed attempt, and log it; after too many the job becomes a dead letter."""
        text = f"{type(error).__name__}: {error}"
        attempts, entry = await store.script(
            *("job_fail", taken.shard, taken.name, taken.worker, taken.era),
            *(*taken.progress.fields(), text),
        )
        if entry:
            _log_dead_letter(taken.job, f"{taken.shard}-{entry.decode()}", attempts, text, error)
        elif attempts and _failures.admits(logging.WARNING, "attempts", type(error).__name__):
            log.warning(
                "attempt %d of %d failed, a worker tries again: %s: %s",
                *(attempts, store.limits.job_tries, taken.job.description, text),
            )

    async def _as_owner(self, store: Store, script: str, taken: TakenJob, *arguments: Arg) -> None:
        """Run a script about a job that a worker holds. Raise JobLost if it does not."""
        if not await store.script(
            script, taken.shard, taken.name, taken.worker, taken.era, *arguments
        ):
            raise JobLost

    # For operators.

    async def status(self) -> FanoutStatus:
        """Count the deliveries under way."""
        statuses = await self._store.each_shard("jobs_status")
        waiting = running = inline = dead = reached = lag = 0
        oldest: OpenJob | None = None
        for due, queued, held, letters, now_ms, followers, first_due, *oldest_fields in statuses:
            inline, dead, reached = inline + due, dead + letters, reached + followers
            running += held
            waiting += queued - held
            if first_due:
                made_ms = int(float(first_due) - self._store.limits.job_lease * 1000)
                lag = max(lag, now_ms - made_ms)
            if oldest_fields and oldest_fields[0] is not None:
                text, *numbers = oldest_fields
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
        """Discard a dead letter; return whether it existed."""
        shard, _, entry_id = letter_id.partition("-")
        if int(shard) >= self._store.limits.shards:
            return False
        return bool(await self._store.script("dead_discard", int(shard), entry_id))


def _log_dead_letter(
    job: Job, letter_id: str, attempts: int, text: str, error: Exception | None = None
) -> None:
    if _failures.admits(logging.ERROR, "dead letters"):
        log.error(
            "dead letter %s after %d failed attempts: %s: %s. Look at it: "
            "feedsvc dead-letters --show %s",
            *(letter_id, attempts, job.description, text, letter_id),
            exc_info=error,
        )


def _taken(fields: Sequence[bytes], worker: str, shard: int, era: str) -> TakenJob:
    text, *progress = fields
    job = Job.decode(text)
    return TakenJob(job, job.name, worker, shard, era, Progress.decode(*progress))


def _delivery(state: bytes, *fields: bytes) -> Delivery:
    """Return the delivery that an answer of ``job_read.lua`` describes."""
    match state:
        case b"":
            return Delivery(state="pulled" if fields[0] == b"1" else "delivered", counted=False)
        case b"due":
            return Delivery(state="queued", counted=False)
        case _:
            feeds, cold, audience = (int(number or 0) for number in fields)
            return Delivery(feeds, cold, audience, state.decode())  # type: ignore[arg-type]


def _letter(shard: int, entry_id: bytes, names_and_values: Sequence[bytes]) -> DeadLetter:
    fields: dict[bytes, Any] = dict(zip(names_and_values[::2], names_and_values[1::2], strict=True))
    numbers = (int(fields[name]) for name in (b"since", b"feeds", b"cold", b"tries"))
    return DeadLetter(
        f"{shard}-{entry_id.decode()}",
        OpenJob(Job.decode(fields[b"job"]), *numbers),
        fields[b"error"].decode(),
        int(entry_id.split(b"-")[0]),
    )
