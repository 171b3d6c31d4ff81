"""Runs of calls: a service under every kind of fault, and whether it keeps its promises."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.history import CallHistory
from tests.faults.play import CallPlay
from tests.faults.story import story
from tests.faults.validators import violations_of
from tests.harness.run import Kind, Totals
from tests.harness.stage import Mode, Stage
from tests.harness.validation import Violation

Users = tuple[str, ...]


def random_limits(chance: random.Random) -> dict[str, int]:
    """Return settings under which little traffic makes everything happen all the time."""
    return {
        "shards": chance.choice([1, 2, 8]),
        "push_chunk": chance.choice([1, 3, 7]),
        "inline_audience": chance.choice([1, 4, 8]),
        "job_lease": 1,
        "job_tries": 100,
        "max_jobs": chance.choice([20, 10_000]),
        "celebrity_threshold": chance.choice([0, 18, 22]),
        "celebrity_lower_percent": chance.choice([60, 90, 95]),
        "feed_cap": chance.choice([30, 800]),
        "feed_slack": chance.choice([0, 50]),
    }


@dataclass
class CallTotals(Totals[CallHistory]):
    """Numbers of what a run of calls has judged."""

    calls: int = 0
    failed_calls: int = 0
    walks: int = 0
    plain_codes: Counter[str] = field(default_factory=Counter)
    """How often each code ended a call of a plain caller."""

    def add(self, history: CallHistory) -> None:
        super().add(history)
        self.calls += history.calls
        self.failed_calls += history.failed_calls
        self.walks += len(history.all_walks)
        self.plain_codes.update(outcome.code for outcome in history.outcomes)

    def rows(self) -> dict[str, int]:
        rows = {
            "calls": self.calls,
            "calls that failed": self.failed_calls,
            "feeds walked": self.walks,
        }
        codes = {f"plain calls: {code}": n for code, n in sorted(self.plain_codes.items())}
        return super().rows() | rows | codes


class CallKind(Kind[Stage, CallHistory, Users]):
    """Histories of calls in each mode of the store."""

    name = "tests.faults"
    description = """Break the service at random and judge whether it keeps its promises.

    Each history has a few seconds of traffic against two servers and a worker while processes are
    killed and paused, connections cut and clocks stepped. Then the faults end, the service becomes
    quiet, and all that it answered must hold. In mode "lost tail" the store also loses its last
    writes. In mode "failover" the store has a replica: the replica takes the store's place while
    the store still takes writes, or dies; then the store becomes the replica.

    Exits 1, and prints the story, if the service did not keep a promise.
    """
    modes = ("durable", "lost tail", "failover")

    def new_totals(self) -> CallTotals:
        return CallTotals()

    def new_stage(self, folder: Path, mode: Mode, chance: random.Random) -> Stage:
        return Stage(folder, mode, chance, random_limits(chance))

    async def play(
        self, stage: Stage, name: str, seconds: float, chance: random.Random
    ) -> CallHistory:
        return await CallPlay(stage, name, chance).perform(seconds)

    def judge(self, history: CallHistory) -> list[Violation[Users]]:
        return violations_of(history)

    def story_of(self, history: CallHistory, violation: Violation[Users]) -> list[str]:
        return story(history, violation.subject or (), violation.numbers)

    def whole_story(self, history: CallHistory) -> list[str]:
        return story(history, history.final.following, history.publishes)


FAULTS = CallKind()
