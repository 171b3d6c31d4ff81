"""Measurements of one process, which only records; its parent process does the arithmetic."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from feedsvc.cli.load_test.plan import Kind

_Integers = partial(array, "Q")


@dataclass(slots=True)
class Measurements:
    """The calls and events since the measurements before, in arrays, which are quick to send.

    Only calls that were due in the counted time count. Publishes and events are always recorded.
    """

    latencies: dict[Kind, "array[int]"] = field(
        default_factory=lambda: {kind: _Integers() for kind in Kind}
    )
    """Microseconds of each call that succeeded, from when it was due."""
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Errors by kind (or ``EVENTS``, for streams that broke) and reason."""
    answered: Counter[str] = field(default_factory=Counter)
    """By kind: calls that succeeded in the counted time, whenever they were due."""
    late: "array[int]" = field(default_factory=_Integers)
    """Open loop: microseconds from when each call was due to when it began."""
    held: int = 0
    """Open loop: calls that were late because the most calls allowed were in flight."""
    not_started: int = 0
    """Open loop: calls that were due in the run, but still held at its end."""
    published: "array[int]" = field(default_factory=_Integers)
    """Triples: an activity's id, its author, and the microsecond when its publish was due."""
    arrived: "array[int]" = field(default_factory=_Integers)
    """Triples: an activity's id, the stream's number, and the microsecond of its arrival."""
    cpu: float | None = None
    """Share of a core that the process used in the counted time; None before its end."""


class Recorder:
    """The measurements that the process is filling."""

    def __init__(self) -> None:
        self.current = Measurements()

    def take(self) -> Measurements:
        """Return the measurements so far, and begin new ones."""
        taken, self.current = self.current, Measurements()
        return taken


def triples(integers: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Return the integers in groups of three."""
    remaining = iter(integers)
    return zip(remaining, remaining, remaining, strict=True)
