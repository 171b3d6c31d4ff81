"""Runs of streams: subscribers under faults, and whether they receive what they must."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.run import Kind, Totals
from tests.harness.stage import Mode
from tests.harness.validation import Violation
from tests.streams.history import StreamHistory, Subject, chains_of
from tests.streams.play import StreamPlay
from tests.streams.stage import StreamStage
from tests.streams.story import story
from tests.streams.validators import violations_of


@dataclass
class StreamTotals(Totals[StreamHistory]):
    """Numbers of what a run of streams has judged."""

    streams: int = 0
    events: int = 0
    chains: int = 0
    chains_read_to_the_end: int = 0
    resumptions: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, history: StreamHistory) -> None:
        super().add(history)
        self.streams += len(history.streams)
        self.events += sum(
            len(message.events) for stream in history.streams for message in stream.messages
        )
        chains = list(chains_of(history))
        self.chains += len(chains)
        self.chains_read_to_the_end += sum(map(history.was_read_to_the_end, chains))
        self.resumptions += len(history.resumptions)
        self.ends.update(stream.end or "left" for stream in history.streams)

    def rows(self) -> dict[str, int]:
        rows = {
            "streams and polls": self.streams,
            "events": self.events,
            "chains of streams": self.chains,
            "chains read to the end": self.chains_read_to_the_end,
            "tokens resumed once more": self.resumptions,
        }
        ends = {f"ended: {end}": count for end, count in sorted(self.ends.items())}
        return super().rows() | rows | ends


class StreamKind(Kind[StreamStage, StreamHistory, Subject]):
    """Histories of subscribers on a durable store."""

    name = "tests.streams"
    description = """Break what live streams stand on, and judge whether they keep their promises.

    Each history has a few seconds of traffic against two servers and a worker, and subscribers of
    each kind that move between the servers, while processes are killed, paused and drained,
    connections cut, and logs trimmed and deleted. Then the faults end, the service becomes quiet,
    all subscribers read to the end, and some of their tokens are resumed once more.

    Exits 1, and prints the story, if the service did not keep a promise.
    """

    def new_totals(self) -> StreamTotals:
        return StreamTotals()

    def new_stage(self, folder: Path, mode: Mode, chance: random.Random) -> StreamStage:
        return StreamStage(folder, chance)

    async def play(
        self, stage: StreamStage, name: str, seconds: float, chance: random.Random
    ) -> StreamHistory:
        return await StreamPlay(stage, name, chance).perform(seconds)

    def judge(self, history: StreamHistory) -> list[Violation[Subject]]:
        return violations_of(history)

    def story_of(self, history: StreamHistory, violation: Violation[Subject]) -> list[str]:
        return story(history, violation.subject, violation.numbers)

    def whole_story(self, history: StreamHistory) -> list[str]:
        lines = []
        for subject in dict.fromkeys(stream.subject for stream in history.streams):
            lines += [str(subject), *story(history, subject, ()), ""]
        return lines


STREAMS = StreamKind()
