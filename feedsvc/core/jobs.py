"""Jobs: what is still to be delivered, stored beside what was published.

A job is made in the same step as what it is about. For a moment it belongs to the process that
serves the call; if that is not done with it soon, the job goes to its shard's queue, where workers
take it, note how far they have come, and take it over from each other.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from feedsvc.core import ids, keys
from feedsvc.core.sources import Source
from feedsvc.core.store import Arg, Store
from feedsvc.core.watch import Watch

#: In a job's text before an actor whose own followers are not addressed; no entity begins so.
NOT_ADDRESSED = "\1"
#: What stands before the external id of the activity, which comes last.
EXTERNAL = "\2"

log = logging.getLogger(__name__)

State = Literal["delivered", "queued", "pulled", "failed"]


class Kind(Enum):
    """What a job does; the letter it has in the store."""

    DELIVER = "+"
    RETRACT = "-"
    FLIP = "c"


@dataclass(frozen=True, slots=True)
class Job:
    """Something to bring to the followers of some entities."""

    kind: Kind
    subject: int
    """The activity's id; for a flip its epoch."""
    actor: str
    """Whose followers are addressed; empty if only those of ``to`` are."""
    to: tuple[str, ...] = ()
    publisher: str = ""
    """The activity's actor, if its followers are not addressed."""
    external_id: str = ""
    """Of an activity that was deleted: what logs of outboxes say of it."""

    @property
    def author(self) -> str:
        """Whose job it is: authors take turns."""
        return self.actor or self.publisher


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a delivery has come."""

    feeds: int = 0
    """Warm feeds of followers that it was put into."""
    cold: int = 0
    """Followers whose feed is not materialised."""
    audience: int = 0
    """Followers it is for."""
    state: State = "delivered"
    held: bool = True
    """Whether any outbox has the activity."""
    counted: bool = True
    """Whether the numbers are known."""


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job in a queue, or set aside."""

    job: Job
    queued_ms: int
    feeds: int
    cold: int
    attempts: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was set aside."""

    id: str
    """``<shard>-<milliseconds>-<number>``."""
    open: OpenJob
    error: str
    failed_ms: int


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
    oldest: OpenJob | None


@dataclass(slots=True)
class Progress:
    """How far a delivery has come."""

    places: dict[str, dict[int, str]] = field(default_factory=dict)
    """By way and source, then by shard: the position to go on after; empty: all there are done."""
    feeds: int = 0
    cold: int = 0
    seen: int = 0
    """Followers that it has come by."""
    told: int = 0
    """Live entities that this process has looked at for it."""
    audience: int | None = None
    """Followers it is for; None: not counted yet."""
    held: bool = True
    """Whether any outbox has the activity."""

    def of(self, source: Source) -> dict[int, str]:
        """The places of one source."""
        # How far pushing has come says nothing about telling, should the followers be flipped.
        way = "tell" if source.pulled else "push"
        return self.places.setdefault(f"{way} {source.entity}", {})

    def figures(self) -> tuple[Arg, ...]:
        """As the scripts take it: places, then numbers."""
        places = json.dumps(self.places, separators=(",", ":")) if self.places else ""
        return places, self.feeds, self.cold, self.seen, *self._audience()

    def numbers(self) -> tuple[Arg, ...]:
        return self.feeds, self.cold, self.seen, *self._audience()

    def _audience(self) -> tuple[Arg]:
        return ("" if self.audience is None else self.audience,)

    def delivery(self, state: State) -> Delivery:
        audience = self.seen if self.audience is None else self.audience
        return Delivery(self.feeds, self.cold, audience, state, self.held)


def _places(text: bytes) -> dict[str, dict[int, str]]:
    return {
        way: {int(shard): place for shard, place in places.items()}
        for way, places in json.loads(text).items()
    }


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
    """How many jobs of one author it may have, those it has included."""
    held: Mapping[str, int] = field(default_factory=dict)
    """How many it has, by author."""
    blame: bool = True
    """Count a lease that ran out as a failure of its job."""
    everything: bool = False
    """Take the jobs that other workers are doing too."""


class JobLost(Exception):
    """A job is not the worker's any more: its lease ran out, or the store lost its last writes."""


def _taken(fields: list[Any], worker: str, shard: int, incarnation: str) -> TakenJob:
    text, places, feeds, cold, seen, audience = fields
    job = parse(text)
    progress = Progress(
        _places(places) if places else {},
        int(feeds),
        int(cold),
        int(seen),
        audience=int(audience) if audience else None,
    )
    return TakenJob(job, name_of(job), worker, shard, incarnation, progress)


def text_of(job: Job) -> str:
    """A job as the store has it."""
    actor = job.actor or (f"{NOT_ADDRESSED}{job.publisher}" if job.publisher else "")
    external = (EXTERNAL + job.external_id,) if job.external_id else ()
    return "\0".join((f"{job.kind.value}{job.subject:019}", actor, *job.to, *external))


def parse(text: bytes) -> Job:
    head, actor, *to = text.decode().split("\0")
    publisher = actor.removeprefix(NOT_ADDRESSED) if actor.startswith(NOT_ADDRESSED) else ""
    external_id = to.pop().removeprefix(EXTERNAL) if to and to[-1].startswith(EXTERNAL) else ""
    return Job(
        *(Kind(head[0]), int(head[1:]), "" if publisher else actor, tuple(to)),
        *(publisher, external_id),
    )


def name_of(job: Job) -> str:
    """What its record is called; see ``lua/lib/jobs.lua``."""
    return f"c{job.actor}" if job.kind is Kind.FLIP else f"{job.kind.value}{job.subject:019}"


class Jobs:
    """The jobs of a store, each in the shard of what it is about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watch = Watch(self.deliveries)
        self.queued = asyncio.Event()
        """Set when this process puts a job into a queue."""
        self.queued_in = set[int]()
        """The shards of those queues, until they are looked at."""

    def shard(self, job: Job) -> int:
        if job.kind is Kind.FLIP:
            return ids.shard_for(job.actor, self._store.limits.shards)
        return ids.shard_of(job.subject)

    # For the process that made the job.

    async def done(self, job: Job, incarnation: str) -> bool:
        """Ends a job; says whether it had an effect that lasts."""
        lossy = int(self._store.lossy)
        answer = await self._store.script(
            "job_done", self.shard(job), text_of(job), incarnation, lossy
        )
        return bool(answer)

    async def spill(self, job: Job, incarnation: str, progress: Progress, state: State) -> None:
        """Leaves a job to the workers; meanwhile its state is ``queued`` or ``pulled``."""
        await self._store.script(
            "job_spill", self.shard(job), text_of(job), incarnation, *progress.figures(), state
        )
        self.look_at(self.shard(job))

    def look_at(self, shard: int) -> None:
        """Tells the workers of this process that a shard's queue has a job."""
        self.queued_in.add(shard)
        self.queued.set()

    def drain(self) -> None:
        """Let all who wait for a delivery go, as it is: the server is stopping."""
        self._watch.drain()

    async def delivery(self, job: Job) -> Delivery:
        """How far a delivery has come."""
        (delivery,) = await self.deliveries([job])
        return delivery

    async def deliveries(self, jobs: Sequence[Job]) -> list[Delivery]:
        """How far some deliveries have come, in order."""
        if not self._store.cluster:
            return await self._read(jobs)
        parts = await asyncio.gather(*(self._read([job]) for job in jobs))
        return [delivery for part in parts for delivery in part]

    async def _read(self, jobs: Sequence[Job]) -> list[Delivery]:
        """The same, by one call."""
        shards = [self.shard(job) for job in jobs]
        answers = await self._store.script("job_read", shards, *map(text_of, jobs))
        return [_delivery(*answer) for answer in answers]

    async def wait(self, job: Job, delivery: Delivery, seconds: float) -> Delivery:
        """Wait for the end of a delivery that was queued; return how far it had come at the end.

        A store that does not answer meanwhile only makes the wait longer.
        """
        return await self._watch.ended(job, delivery, seconds)

    async def close(self) -> None:
        """Wait for nothing any more."""
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
        held = [part for pair in share.held.items() for part in pair]
        while groups:
            left = share.jobs - len(taken)
            if left <= 0:
                waiting += [shard for group in groups for shard in group]
                break
            asked, groups = groups[:left], groups[left:]
            flags = (share.of_an_author, int(share.blame), int(share.everything))
            answers = await asyncio.gather(
                *(
                    store.script("jobs_take", group, worker, left // len(asked), *flags, *held)
                    for group in asked
                )
            )
            for group, (found, more) in zip(asked, answers, strict=True):
                waiting += [group[index - 1] for index in more]
                taken += [
                    _taken(fields, worker, shard, era.decode())
                    for index, *fields, era in found
                    for shard in (group[index - 1],)
                ]
        return taken, waiting

    async def checkpoint(self, store: Store, taken: TakenJob, *, keep: bool = True) -> None:
        """Notes how far a job has come; ``keep``: and goes on with it. Raises JobLost."""
        await self._ours(store, "job_checkpoint", taken, *taken.progress.figures(), int(keep))

    async def leave(self, store: Store, taken: TakenJob) -> None:
        """Give up a job of which nothing can be noted, so that it is not held against the job."""
        await store.script("job_leave", taken.shard, taken.name, taken.worker)

    async def finish(self, store: Store, taken: TakenJob, state: State) -> None:
        """Ends a job. Raises JobLost."""
        rest = (*taken.progress.numbers(), state, int(store.lossy))
        await self._ours(store, "job_finish", taken, *rest)
        self._watch.look(taken.job)

    async def fail(self, store: Store, taken: TakenJob, error: str) -> None:
        """Notes a failed attempt. After too many the job is set aside."""
        if await store.script(
            *("job_fail", taken.shard, taken.name, taken.worker, taken.incarnation),
            *(*taken.progress.figures(), error),
        ):
            log.error("a job was set aside: %s", taken.name)

    async def _ours(self, store: Store, script: str, taken: TakenJob, *rest: Arg) -> None:
        if not await store.script(
            script, taken.shard, taken.name, taken.worker, taken.incarnation, *rest
        ):
            raise JobLost

    # For operators.

    async def status(self) -> FanoutStatus:
        """How the deliveries stand."""
        found = await self._store.each_shard("jobs_status")
        waiting = running = inline = dead = reached = lag = 0
        oldest: OpenJob | None = None
        for due, queued, taken, letters, now, seen, first_due, *first in found:
            inline, dead, reached = inline + due, dead + letters, reached + seen
            running += taken
            waiting += queued - taken
            if first_due:
                began = float(first_due) - self._store.limits.job_lease * 1000
                lag = max(lag, now - int(began))
            if first and first[0] is not None:
                job = OpenJob(parse(first[0]), *(int(one) for one in first[1:]))
                lag = max(lag, now - job.queued_ms)
                if oldest is None or job.queued_ms < oldest.queued_ms:
                    oldest = job
        return FanoutStatus(waiting, running, inline, dead, reached / 60, max(0, lag), oldest)

    async def dead_letters(self, after: str, count: int) -> list[DeadLetter]:
        """Up to so many dead letters after one of them, or from the first on."""
        shard, _, entry = after.partition("-")
        letters: list[DeadLetter] = []
        for one in range(int(shard or 0), self._store.limits.shards):
            left = count - len(letters)
            if not left:
                break
            found = await self._store.call(
                *("XRANGE", keys.dead(self._store.tags[one])),
                *(f"({entry}" if entry else "-", "+", "COUNT", left),
            )
            entry = ""
            letters += [_letter(one, *each) for each in found]
        return letters

    async def replay(self, letter_id: str) -> bool:
        """Puts a dead letter back into its queue; says whether there was one."""
        shard, _, entry = letter_id.partition("-")
        if int(shard) >= self._store.limits.shards:
            return False
        found = await self._store.script("dead_replay", int(shard), entry)
        self.look_at(int(shard))
        return bool(found)

    async def discard(self, letter_id: str) -> bool:
        """Throw a dead letter away; return whether there was one."""
        shard, _, entry = letter_id.partition("-")
        if int(shard) >= self._store.limits.shards:
            return False
        return bool(await self._store.script("dead_discard", int(shard), entry))


def _delivery(state: bytes, *rest: bytes) -> Delivery:
    """What the script says of a job."""
    match state:
        case b"":
            return Delivery(state="pulled" if rest[0] == b"1" else "delivered", counted=False)
        case b"due":
            return Delivery(state="queued", counted=False)
        case _:
            feeds, cold, audience = (int(figure or 0) for figure in rest)
            return Delivery(feeds, cold, audience, state.decode())  # type: ignore[arg-type]


def _letter(shard: int, entry: bytes, flat: list[bytes]) -> DeadLetter:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = (int(fields[name]) for name in (b"since", b"feeds", b"cold", b"tries"))
    return DeadLetter(
        f"{shard}-{entry.decode()}",
        OpenJob(parse(fields[b"job"]), *numbers),
        fields[b"error"].decode(),
        int(entry.split(b"-")[0]),
    )
