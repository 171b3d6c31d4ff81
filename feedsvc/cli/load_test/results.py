"""What a run came to: the batches of all processes together, and what is to be said of them."""

from collections import Counter
from collections.abc import Iterable, Mapping

from feedsvc.cli.load_test.batches import Batch, microseconds, triples
from feedsvc.cli.load_test.deliveries import Deliveries
from feedsvc.cli.load_test.latencies import Latencies
from feedsvc.cli.load_test.plan import EVENTS, Kind, Plan

#: The reason of an event that did not come.
MISSED = "MISSED"


class Results:
    """Is given batches while the run goes on; reads as well before its end as after it."""

    def __init__(self, plan: Plan, reached: Mapping[int, frozenset[int]]) -> None:
        self.plan = plan
        names: list[str] = [kind for kind in Kind if plan.mix.get(kind)]
        if plan.subscriptions:
            names.append(EVENTS)
        self.latencies: dict[str, Latencies] = {name: Latencies() for name in names}
        """Of each kind of call that the plan has, and of events if it has streams."""
        self.late = Latencies()
        """How late calls of an open loop were begun."""
        self.held = 0
        self.not_started = 0
        self.cpu: list[float] = []
        """Of each process, how much of a core it used."""
        self.seconds = 0.0
        """How long was counted: the plan's duration, or less if the run was interrupted."""
        self.interrupted = False
        self.left = False
        """Whether data of the run could not be taken away."""
        self._errors: Counter[tuple[str, str]] = Counter()
        self._deliveries = Deliveries(reached)
        self._answered: Counter[str] = Counter()
        self._counted_from = 0

    def begin(self, at: float) -> None:
        """The calls begin at this time of the run's clock."""
        self._counted_from = microseconds(at + self.plan.warm_up)

    def end(self, at: float, *, interrupted: bool) -> None:
        """The run ended at this time."""
        self.seconds = self.counted_seconds(at)
        self.interrupted = interrupted

    def counted_seconds(self, now: float) -> float:
        """How much of the counted time has passed."""
        passed = now - self._counted_from / 1e6 if self._counted_from else 0.0
        return min(self.plan.duration, max(0.0, passed))

    def hear(self, batch: Batch) -> None:
        for kind, latencies in batch.latencies.items():
            if latencies:
                self.latencies[kind].record(latencies)
        self._errors.update(batch.errors)
        self._answered.update(batch.answered)
        self.late.record(batch.late)
        self.held += batch.held
        self.not_started += batch.not_started
        if batch.cpu is not None:
            self.cpu.append(batch.cpu)
        for activity, author, due in triples(batch.published):
            self._record(self._deliveries.published(activity, author, due))
        for activity, stream, at in triples(batch.arrived):
            if self._counted_from <= at < self._counted_from + microseconds(self.plan.duration):
                self._answered[EVENTS] += 1
            self._record(self._deliveries.arrived(activity, stream, at))

    def _record(self, events: Iterable[tuple[int, int]]) -> None:
        self.latencies[EVENTS].record(took for due, took in events if due >= self._counted_from)

    @property
    def missing(self) -> int:
        """Events that have not come, of counted publishes that were answered.

        0 if the run was interrupted, which leaves events on their way.
        """
        return 0 if self.interrupted else self._deliveries.missing(self._counted_from)

    def errors(self, name: str) -> dict[str, int]:
        """By reason, the most frequent first."""
        found = Counter({why: n for (kind, why), n in self._errors.items() if kind == name})
        if name == EVENTS and self.missing:
            found[MISSED] = self.missing
        return dict(found.most_common())

    def failed(self, name: str) -> int:
        return sum(self.errors(name).values())

    def rate(self, name: str) -> float:
        """Answers and events a second of the counted time, whenever they were due."""
        return self._answered[name] / self.seconds if self.seconds else 0.0

    @property
    def succeeded(self) -> bool:
        """Every call that was to be made was made and answered, and every event came."""
        return not (self._errors or self.missing or self.not_started or self.left)
