"""Histories, one after another, each judged."""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults.history import History
from tests.faults.judge import Violation, judged
from tests.faults.play import play
from tests.faults.stage import Mode, Stage
from tests.faults.story import story

MODES: tuple[Mode, ...] = ("durable", "lost tail", "failover")
#: Seconds of traffic and faults in one history.
HISTORY_SECONDS = 4.0
#: Histories that are played one after another on one stage, within the same limits.
HISTORIES_A_STAGE = 3
#: Violations of a history that are told, and lines of the history with each.
TOLD = 5
LINES = 80


@dataclass
class Totals:
    """What was judged."""

    histories: int = 0
    calls: int = 0
    unknown: int = 0
    published: int = 0
    walks: int = 0
    plain: Counter[str] = field(default_factory=Counter)
    """What calls without a client of ours came to."""
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, history: History) -> None:
        self.histories += 1
        self.calls += history.calls
        self.unknown += history.unknown
        self.published += history.acknowledged
        self.walks += len(history.walks) + len(history.rest.feeds)
        self.plain.update(one.code for one in history.outcomes)
        self.faults.update(fault.kind for fault in history.faults)


class Violated(Exception):
    """A promise was not kept; the text says which, and how it came."""


async def run(
    seconds: float,
    seed: str,
    modes: Sequence[Mode],
    *,
    tell: Callable[[str, Totals], None] = lambda _, __: None,
    keep: Path | None = None,
) -> Totals:
    """Plays and judges histories for so many seconds, at least one of each mode.

    ``tell`` hears what is being done. A history is not the same each time for the same ``seed``, as
    it depends on what the processes do meanwhile; what is asked and broken is alike. ``keep`` is a
    folder for logs and stores. Raises Violated.
    """
    totals = Totals()
    end = time.monotonic() + seconds
    for number in count():
        mode = modes[number % len(modes)]
        if number >= len(modes) and time.monotonic() > end:
            return totals
        chance = random.Random(f"{seed} {number}")
        with kept_folder(keep, number) as folder:
            async with Stage(folder, mode, chance) as stage:
                for part in range(HISTORIES_A_STAGE):
                    name = f"{number}.{part}"
                    tell(f"seed {seed}, history {name}, {mode}", totals)
                    history = await play(stage, f"h{part}", HISTORY_SECONDS, chance)
                    totals.add(history)
                    if keep:
                        _write(history, keep / f"{name}.txt")
                    if violations := judged(history):
                        about = f"seed {seed}, history {name}, {mode}, {_settings(stage)}"
                        raise Violated("\n".join([about, "", *_told(history, violations)]))
                    if time.monotonic() > end:
                        break
    raise AssertionError


@contextmanager
def kept_folder(keep: Path | None, number: int) -> Iterator[Path]:
    """Where a stage keeps its files, copied to ``keep``; the paths of its sockets are short."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            yield Path(folder)
        finally:
            if keep:
                sockets = shutil.ignore_patterns("*.sock")
                shutil.copytree(folder, keep / str(number), ignore=sockets, dirs_exist_ok=True)


def _write(history: History, file: Path) -> None:
    """Writes down all that was done and read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = story(history, history.rest.following, history.publishes)
    file.write_text("".join(f"{line}\n" for line in lines))


def _settings(stage: Stage) -> str:
    return ", ".join(f"{name} {value}" for name, value in stage.limits.items())


def _told(history: History, violations: Sequence[Violation]) -> Iterator[str]:
    """The first violations, each with the part of the history that it is about."""
    for one in violations[:TOLD]:
        yield f"{one.judge}: {one.text}"
        if one.users or one.numbers:
            yield from story(history, one.users, one.numbers)[-LINES:]
        yield ""
    if len(violations) > TOLD:
        yield f"and {len(violations) - TOLD} more"
