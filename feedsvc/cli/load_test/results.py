"""The results of a run: the measurements of all processes together."""

from collections import Counter
from collections.abc import Iterable, Mapping

from feedsvc.cli.load_test.clock import microseconds
from feedsvc.cli.load_test.deliveries import Deliveries
from feedsvc.cli.load_test.latencies import Latencies
from feedsvc.cli.load_test.measurements import Measurements, triples
from feedsvc.cli.load_test.plan import EVENTS, Kind, Plan

#: The reason of an event that did not come.
MISSED = "MISSED"


class Results:
    """Results that grow while the run goes on. They can be read before its end, too."""

    def __init__(self, plan: Plan, reached: Mapping[int, frozenset[int]]) -> None:
        """``reached`` are the streams through which each author's activities come."""
        self.plan = plan
        names: list[str] = [kind for kind in Kind if plan.mix.get(kind)]
        if plan.subscriptions:
            names.append(EVENTS)
        self.latencies: dict[str, Latencies] = {name: Latencies() for name in names}
        """Latencies of each kind of call that the plan has, and of events if it has streams."""
        self.late = Latencies()
        """Times from when calls of an open loop were due to when they began."""
        self.held = 0
        self.not_started = 0
        self.cpu: list[float] = []
        """Share of a core that each process used."""
        self.seconds = 0.0
        """Seconds that were counted: the plan's duration, or less if the run was interrupted."""
        self.interrupted = False
        self.left_behind = False
        """True if data of the run could not be removed."""
        self._errors: Counter[tuple[str, str]] = Counter()
        self._deliveries = Deliveries(reached)
        self._answered: Counter[str] = Counter()
        self._counted_from = 0

    def begin(self, begin: float) -> None:
        """Note when the calls begin, by the run's clock."""
        self._counted_from = microseconds(begin + self.plan.warm_up)

    def end(self, end: float, *, interrupted: bool) -> None:
        """Note when the run ended."""
        self.seconds = self.counted_seconds(end)
        self.interrupted = interrupted

    def counted_seconds(self, now: float) -> float:
        """Return how much of the counted time has passed."""
        passed = now - self._counted_from / 1e6 if self._counted_from else 0.0
        return min(self.plan.duration, max(0.0, passed))

    def hear(self, measurements: Measurements) -> None:
        """Add what a process measured."""
        for kind, latencies in measurements.latencies.items():
            if latencies:
                self.latencies[kind].record(latencies)
        self._errors.update(measurements.errors)
        self._answered.update(measurements.answered)
        self.late.record(measurements.late)
        self.held += measurements.held
        self.not_started += measurements.not_started
        if measurements.cpu is not None:
            self.cpu.append(measurements.cpu)
        for activity_id, author, due in triples(measurements.published):
            self._record(self._deliveries.published(activity_id, author, due))
        counted_until = self._counted_from + microseconds(self.plan.duration)
        for activity_id, stream, arrival in triples(measurements.arrived):
            if self._counted_from <= arrival < counted_until:
                self._answered[EVENTS] += 1
            self._record(self._deliveries.arrived(activity_id, stream, arrival))

    def _record(self, events: Iterable[tuple[int, int]]) -> None:
        self.latencies[EVENTS].record(took for due, took in events if due >= self._counted_from)

    @property
    def missing(self) -> int:
        """Number of events that have not come, of counted publishes that were answered.

        0 if the run was interrupted, which leaves events on their way.
        """
        return 0 if self.interrupted else self._deliveries.missing(self._counted_from)

    def errors(self, name: str) -> dict[str, int]:
        """Return the number of errors by reason, the most frequent reason first."""
        counts = Counter(
            {why: count for (kind, why), count in self._errors.items() if kind == name}
        )
        if name == EVENTS and self.missing:
            counts[MISSED] = self.missing
        return dict(counts.most_common())

    def failed(self, name: str) -> int:
        """Return the number of calls of a kind that failed."""
        return sum(self.errors(name).values())

    def rate(self, name: str) -> float:
        """Return answers or events a second of the counted time, whenever they were due."""
        return self._answered[name] / self.seconds if self.seconds else 0.0

    @property
    def succeeded(self) -> bool:
        """True if every call was made and answered, every event came, and nothing is left."""
        return not (self._errors or self.missing or self.not_started or self.left_behind)
