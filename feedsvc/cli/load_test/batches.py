"""What a process tells of its calls: it takes the times, and leaves the arithmetic to others."""

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from feedsvc.cli.load_test.plan import Kind

#: The clock of a run, in seconds. All processes of a machine share it.
clock = time.monotonic

_Integers = partial(array, "Q")


@dataclass(slots=True)
class Batch:
    """What happened since the batch before. Arrays, as they are quick to fill and to send.

    Only calls that were due in the counted time count; publishes and events are told always.
    """

    latencies: dict[Kind, "array[int]"] = field(
        default_factory=lambda: {kind: _Integers() for kind in Kind}
    )
    """Microseconds of each call that succeeded, from when it was due."""
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind (or ``EVENTS``, for streams that broke) and reason."""
    answered: Counter[str] = field(default_factory=Counter)
    """By kind: calls that succeeded in the counted time, whenever they were due."""
    late: "array[int]" = field(default_factory=_Integers)
    """Open loop: microseconds from when each call was due to when it was begun."""
    held: int = 0
    """Open loop: calls that were late because as many were in flight as may be."""
    not_started: int = 0
    """Open loop: calls that were due in the run, but still held when it ended."""
    published: "array[int]" = field(default_factory=_Integers)
    """Triples: an activity's id, its author, and the microsecond when it was due."""
    arrived: "array[int]" = field(default_factory=_Integers)
    """Triples: an activity's id, the stream's number, and the microsecond of its arrival."""
    cpu: float | None = None
    """How much of a core the process used in the counted time; at the end of it."""


class Recorder:
    """The batch that is being filled."""

    def __init__(self) -> None:
        self.batch = Batch()

    def take(self) -> Batch:
        """The batch as it is. A new one is begun."""
        taken, self.batch = self.batch, Batch()
        return taken


def microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


def triples(flat: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    values = iter(flat)
    return zip(values, values, values, strict=True)
