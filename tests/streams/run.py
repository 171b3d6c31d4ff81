"""Histories of streams, one after another, each judged."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults.run import Violated, kept_folder
from tests.streams.history import StreamHistory, chains, whole
from tests.streams.play import play
from tests.streams.stage import StreamStage
from tests.streams.story import story
from tests.streams.validators import Violation, validated

#: Seconds of traffic and faults in one history.
HISTORY_SECONDS = 4.0
#: Histories that are played one after another on one stage, within the same limits.
HISTORIES_A_STAGE = 3
#: Violations of a history that are told, and lines of the history with each.
TOLD = 5
LINES = 120


@dataclass
class Totals:
    """What was judged."""

    histories: int = 0
    published: int = 0
    streams: int = 0
    events: int = 0
    chains: int = 0
    whole: int = 0
    replays: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, history: StreamHistory) -> None:
        self.histories += 1
        self.published += history.acknowledged
        self.streams += len(history.told)
        self.events += sum(len(m.events) for told in history.told for m in told.messages)
        there = list(chains(history))
        self.chains += len(there)
        self.whole += sum(whole(history, chain) for chain in there)
        self.replays += len(history.replays)
        self.ends.update(told.how or "left" for told in history.told)
        self.faults.update(fault.kind for fault in history.faults)


async def run(
    seed: str,
    *,
    seconds: float = 0.0,
    histories: int = 1,
    tell: Callable[[str, Totals], None] = lambda _, __: None,
    keep: Path | None = None,
) -> Totals:
    """Plays and judges histories for so many seconds, and at least so many of them.

    ``tell`` hears what is being done. A history is not the same each time for the same ``seed``, as
    it depends on what the processes do meanwhile; what is asked and broken is alike. ``keep`` is a
    folder for logs and stores. Raises Violated.
    """
    totals = Totals()
    end = time.monotonic() + seconds
    for number in count():
        chance = random.Random(f"{seed} {number}")
        with kept_folder(keep, number) as folder:
            async with StreamStage(folder, chance) as stage:
                for part in range(HISTORIES_A_STAGE):
                    name = f"{number}.{part}"
                    tell(f"seed {seed}, history {name}", totals)
                    history = await play(stage, f"h{part}", HISTORY_SECONDS, chance)
                    totals.add(history)
                    if keep:
                        _write(history, keep / f"{name}.txt")
                    if violations := validated(history):
                        about = f"seed {seed}, history {name}, {_settings(stage)}"
                        raise Violated("\n".join([about, "", *_told(history, violations)]))
                    if totals.histories >= histories and time.monotonic() > end:
                        return totals
    raise AssertionError


def _write(history: StreamHistory, file: Path) -> None:
    """Writes down all that was done and told, by subject."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for subject in dict.fromkeys(told.subject for told in history.told):
        parts += [str(subject), *story(history, subject, ()), ""]
    file.write_text("\n".join(parts))


def _settings(stage: StreamStage) -> str:
    limits = [f"{name} {value}" for name, value in stage.limits.items()]
    return ", ".join([*limits, *stage.serving_options])


def _told(history: StreamHistory, violations: Sequence[Violation]) -> Iterator[str]:
    """The first violations, each with the part of the history that it is about."""
    for one in violations[:TOLD]:
        yield f"{one.validator}: {one.text}"
        if one.subject is not None or one.numbers:
            yield from story(history, one.subject, one.numbers)[-LINES:]
        yield ""
    if len(violations) > TOLD:
        yield f"and {len(violations) - TOLD} more"
