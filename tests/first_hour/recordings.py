"""Recordings of first runs: what a person sees, command by command, as text in ``docs/first-runs``.

Each recording is made in a fresh clone by `make recordings`. A run of the first hour makes it again
and compares: numbers, times and ids may differ, words may not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from tests.first_hour.newcomer import Newcomer

FOLDER = "docs/first-runs"

#: A number with its unit, an id, a time or a date: what differs from run to run.
_VARIES = re.compile(
    r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-][\d:]+)?|\b[0-9a-f]{8,}\b|\d[\d,.:]*(?: ?(?:ms|us|s|MB|kB|KB|GB|B|%))?\b%?"
)


@dataclass(frozen=True)
class Step:
    """One command of a session."""

    command: str
    until: str = ""
    """The command goes on in the background once it has printed this text."""
    status: int = 0


@dataclass(frozen=True)
class Session:
    """Commands that a person types one after the other."""

    name: str
    title: str
    steps: tuple[Step, ...]

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}.txt"


def record(newcomer: Newcomer, session: Session) -> str:
    """Run the session and return the text of its recording."""
    parts = [f"{session.title}\n"]
    try:
        for step in session.steps:
            output = newcomer.type(step.command, until=step.until, status=step.status)
            parts.append(f"\n$ {step.command}\n{_tidy(output, newcomer)}")
    finally:
        rest = newcomer.end_background()
    for command, output in rest:
        if output.strip():
            parts.append(f"\n^C  ({command})\n{_tidy(output, newcomer)}")
    return "".join(parts)


def difference(committed: str, made: str) -> str:
    """Return the lines in which two recordings differ in words, or an empty text."""
    before, after = (list(_masked(text)) for text in (committed, made))
    return "\n".join(unified_diff(before, after, "committed", "made now", lineterm="", n=1))


def _masked(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = _VARIES.sub("#", line)
        yield re.sub(r"[ ─━╸╺]+", " ", words).rstrip()


def _tidy(output: str, newcomer: Newcomer) -> str:
    text = output.replace(str(newcomer.clone), "~/feedsvc")
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines) + "\n" if lines else ""
