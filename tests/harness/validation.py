"""Validators of a history: pure functions that yield what a service must not have done."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.harness.history import History

HistoryT = TypeVar("HistoryT", bound=History)
SubjectT = TypeVar("SubjectT")

#: The text of a violation, the subject whose story explains it, and the numbers of the publishes.
Finding = tuple[str, SubjectT | None, tuple[int, ...]]
Findings = Iterator[Finding[SubjectT]]


@dataclass(frozen=True)
class Violation(Generic[SubjectT]):
    """A promise that the service did not keep."""

    validator: str
    text: str
    subject: SubjectT | None = None
    """The users or the stream that the violation concerns."""
    numbers: tuple[int, ...] = ()
    """The publishes that the violation concerns."""


def find_violations(
    history: HistoryT, validators: Sequence[Callable[[HistoryT], Findings[SubjectT]]]
) -> list[Violation[SubjectT]]:
    """Return all violations in a history; none if the service kept its promises."""
    return [
        Violation(validator.__name__, *finding)
        for validator in validators
        for finding in validator(history)
    ]


def no_complaint_was_noted(history: History) -> Findings[SubjectT]:
    """No call fails without a fault that excuses it, and no process ends by itself."""
    for complaint in history.complaints:
        yield complaint, None, ()
