"""Jobs: what is still to be delivered, stored beside what was published.

A job is made in the same step as what it is about. For a moment it belongs to the process that
serves the call; if that is not done with it soon, the job goes to its shard's queue, where workers
take it, note how far they have come, and take it over from each other.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from feedsvc.core import ids, keys
from feedsvc.core.sources import Source
from feedsvc.core.store import Arg, Store

#: Seconds after which one who waits for a delivery looks again; a worker of its own process wakes
#: it.
LOOK_AGAIN_SECONDS = 0.05

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
        return Delivery(self.feeds, self.cold, audience, state)


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


class JobLost(Exception):
    """A job is not the worker's any more: its lease ran out, or the store lost its last writes."""


def text_of(job: Job) -> str:
    """A job as the store has it."""
    return "\0".join((f"{job.kind.value}{job.subject:019}", job.actor, *job.to))


def parse(text: bytes) -> Job:
    head, actor, *to = text.decode().split("\0")
    return Job(Kind(head[0]), int(head[1:]), actor, tuple(to))


def name_of(job: Job) -> str:
    """What its record is called; see ``lua/lib/jobs.lua``."""
    return f"c{job.actor}" if job.kind is Kind.FLIP else f"{job.kind.value}{job.subject:019}"


class Jobs:
    """The jobs of a store, each in the shard of what it is about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended: dict[str, asyncio.Event] = {}
        self.queued = asyncio.Event()
        """Set when this process puts a job into a queue."""
        self.queued_in = set[int]()
        """The shards of those queues, until they are looked at."""
        self.draining = False
        """The server is stopping: whoever waits is to leave."""

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

    async def delivery(self, job: Job) -> Delivery:
        """How far a delivery has come."""
        state, *rest = await self._store.script("job_read", self.shard(job), text_of(job))
        match state:
            case b"":
                return Delivery(state="pulled" if rest[0] == b"1" else "delivered")
            case b"due":
                return Delivery(state="queued")
            case _:
                feeds, cold, audience = (int(one or 0) for one in rest)
                return Delivery(feeds, cold, audience, state.decode())

    async def wait(self, job: Job, seconds: float) -> Delivery:
        """How a delivery ended, or how far it had come when the time was up."""
        name, loop = name_of(job), asyncio.get_running_loop()
        ended = self._ended.setdefault(name, asyncio.Event())
        until = loop.time() + seconds
        try:
            while True:
                delivery = await self.delivery(job)
                left = until - loop.time()
                if delivery.state != "queued" or left <= 0 or self.draining:
                    return delivery
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_AGAIN_SECONDS)):
                        await ended.wait()
        finally:
            if self._ended.get(name) is ended:
                del self._ended[name]

    # For workers.

    async def take(
        self,
        store: Store,
        worker: str,
        most: int,
        shards: Collection[int],
        *,
        everything: bool = False,
    ) -> list[TakenJob]:
        """Up to about so many jobs to do; ``everything``: those that others are doing too."""
        together = [[one] for one in shards] if store.cluster else [list(shards)]
        each = max(1, most // len(together))
        answers = await asyncio.gather(
            *(store.script("jobs_take", some, worker, each, int(everything)) for some in together)
        )
        taken: list[TakenJob] = []
        for some, found in zip(together, answers, strict=True):
            for index, text, places, feeds, cold, seen, audience, _, _, era in found:
                job, shard = parse(text), some[index - 1]
                progress = Progress(
                    _places(places) if places else {},
                    int(feeds),
                    int(cold),
                    int(seen),
                    audience=int(audience) if audience else None,
                )
                taken.append(TakenJob(job, name_of(job), worker, shard, era.decode(), progress))
        return taken

    async def checkpoint(self, store: Store, taken: TakenJob, *, keep: bool = True) -> None:
        """Notes how far a job has come; ``keep``: and goes on with it. Raises JobLost."""
        await self._ours(store, "job_checkpoint", taken, *taken.progress.figures(), int(keep))

    async def finish(self, store: Store, taken: TakenJob, state: State) -> None:
        """Ends a job. Raises JobLost."""
        rest = (*taken.progress.numbers(), state, int(store.lossy))
        await self._ours(store, "job_finish", taken, *rest)
        if taken.name in self._ended:
            self._ended.pop(taken.name).set()

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


def _letter(shard: int, entry: bytes, flat: list[bytes]) -> DeadLetter:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = (int(fields[name]) for name in (b"since", b"feeds", b"cold", b"tries"))
    return DeadLetter(
        f"{shard}-{entry.decode()}",
        OpenJob(parse(fields[b"job"]), *numbers),
        fields[b"error"].decode(),
        int(entry.split(b"-")[0]),
    )
