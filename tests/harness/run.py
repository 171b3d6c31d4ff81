"""A run: histories by a seed, one after another, each judged."""

import random
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from tests.harness.history import History
from tests.harness.stage import Mode, Stage
from tests.harness.validation import Violation

#: Seconds of traffic and faults in one history.
HISTORY_SECONDS = 4.0
#: Histories that are played one after another on one stage, with the same limits.
HISTORIES_PER_STAGE = 3
#: Violations of a history that are printed.
PRINTED_VIOLATIONS = 5
#: Last lines of the story that are printed with each violation.
PRINTED_LINES = 120

StageT = TypeVar("StageT", bound=Stage)
HistoryT = TypeVar("HistoryT", bound=History)
SubjectT = TypeVar("SubjectT")


@dataclass
class Totals(Generic[HistoryT]):
    """Numbers of what a run has judged."""

    histories: int = 0
    published: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, history: HistoryT) -> None:
        """Count one more history."""
        self.histories += 1
        self.published += history.acknowledged
        self.faults.update(fault.kind for fault in history.faults)

    def rows(self) -> dict[str, int]:
        """Return the numbers by what they count; the faults come last."""
        return {"histories": self.histories, "acknowledged publishes": self.published}


class Violated(Exception):
    """The service did not keep a promise; the text names the promise and tells the story."""


class Kind(ABC, Generic[StageT, HistoryT, SubjectT]):
    """A kind of run: its stage, its traffic, its validators and its stories."""

    #: The package that runs it.
    name: str
    #: What `--help` says of it.
    description: str
    modes: Sequence[Mode] = ("durable",)

    @abstractmethod
    def new_totals(self) -> Totals[HistoryT]:
        """Return totals of no history."""

    @abstractmethod
    def new_stage(self, folder: Path, mode: Mode, chance: random.Random) -> StageT:
        """Return a stage with random limits."""

    @abstractmethod
    async def play(
        self, stage: StageT, name: str, seconds: float, chance: random.Random
    ) -> HistoryT:
        """Play one history on a stage that is quiet before and after it."""

    @abstractmethod
    def judge(self, history: HistoryT) -> list[Violation[SubjectT]]:
        """Return all violations in a history."""

    @abstractmethod
    def story_of(self, history: HistoryT, violation: Violation[SubjectT]) -> list[str]:
        """Return the lines of a history that explain a violation."""

    @abstractmethod
    def whole_story(self, history: HistoryT) -> list[str]:
        """Return all lines of a history."""


async def run(
    kind: Kind[StageT, HistoryT, SubjectT],
    seed: str,
    *,
    seconds: float = 0.0,
    min_histories: int = 1,
    modes: Sequence[Mode] = (),
    report: Callable[[str, Totals[HistoryT]], None] = lambda _, __: None,
    keep: Path | None = None,
) -> Totals[HistoryT]:
    """Play and judge histories for some seconds, at least one in each mode.

    `report` gets the name of each history that begins, and the totals so far. The same seed makes
    similar calls and faults, but never the same history: that depends on what the processes do
    meanwhile. `keep` is a folder for logs, stores and stories. Raise Violated if the service breaks
    a promise.
    """
    modes = modes or kind.modes
    totals = kind.new_totals()
    end = time.monotonic() + seconds

    def is_over() -> bool:
        return totals.histories >= min_histories and time.monotonic() > end

    for stage_number in count():
        if stage_number >= len(modes) and is_over():
            return totals
        mode = modes[stage_number % len(modes)]
        chance = random.Random(f"{seed} {stage_number}")
        with kept_folder(keep, stage_number) as folder:
            async with kind.new_stage(folder, mode, chance) as stage:
                for part in range(HISTORIES_PER_STAGE):
                    name = f"{stage_number}.{part}"
                    title = f"seed {seed}, history {name}, {mode}"
                    report(title, totals)
                    history = await kind.play(stage, f"h{part}", HISTORY_SECONDS, chance)
                    totals.add(history)
                    if keep:
                        _write_story(kind.whole_story(history), keep / f"{name}.txt")
                    if violations := kind.judge(history):
                        title += f", {_describe_settings(stage)}"
                        lines = _describe_violations(kind, history, violations)
                        raise Violated("\n".join([title, "", *lines]))
                    if is_over():
                        break
    raise AssertionError


@contextmanager
def kept_folder(keep: Path | None, stage_number: int) -> Iterator[Path]:
    """Make a folder for the files of a stage, and copy it to `keep` at the end.

    The folder is a temporary one because the paths of sockets must be short.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            yield Path(folder)
        finally:
            if keep:
                sockets = shutil.ignore_patterns("*.sock")
                target = keep / str(stage_number)
                shutil.copytree(folder, target, ignore=sockets, dirs_exist_ok=True)


def _write_story(lines: Sequence[str], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def _describe_settings(stage: Stage) -> str:
    limits = [f"{name} {value}" for name, value in stage.limits.items()]
    return ", ".join([*limits, *stage.server_options])


def _describe_violations(
    kind: Kind[StageT, HistoryT, SubjectT],
    history: HistoryT,
    violations: Sequence[Violation[SubjectT]],
) -> Iterator[str]:
    """Yield the first violations, each with the part of the history that explains it."""
    for violation in violations[:PRINTED_VIOLATIONS]:
        yield f"{violation.validator}: {violation.text}"
        if violation.subject or violation.numbers:
            yield from kind.story_of(history, violation)[-PRINTED_LINES:]
        yield ""
    if len(violations) > PRINTED_VIOLATIONS:
        yield f"and {len(violations) - PRINTED_VIOLATIONS} more"
