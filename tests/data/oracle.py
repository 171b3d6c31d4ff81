"""What the feeds of a data set are, computed from its files alone.

Plain Python: it knows nothing of Redis, of the service, or of how the importer reads the files.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

#: What the kinds of the Higgs data are called as verbs.
HIGGS_VERBS = {"RT": "share", "MT": "mention", "RE": "reply"}


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody did something: one line of a file."""

    actor: str
    verb: str
    thing: str
    """What it was done to."""
    ms: int
    """When, in Unix milliseconds."""
    to: tuple[str, ...] = ()
    """Whose followers get it too."""
    name: str | None = None
    """The line's own id; None if it has none."""
    extra: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)
    """What else the line says."""

    @property
    def routes(self) -> tuple[str, ...]:
        """The outboxes that it goes to."""
        return (self.actor, *self.to)


class DataSet:
    """The lines of the files, and what follows from them."""

    def __init__(self, events: Iterable[Event], follows: Iterable[tuple[str, str]] = ()) -> None:
        self.events = list(events)
        self.numbers = {event: number for number, event in enumerate(self.events)}
        assert len(self.numbers) == len(self.events), "two lines are the same"
        self.published: defaultdict[str, list[int]] = defaultdict(list)
        """By outbox, the numbers of all events that go there, newest first."""
        for number, event in enumerate(self.events):
            for entity in event.routes:
                self.published[entity].append(number)
        for numbers in self.published.values():
            numbers.sort(key=lambda number: -self.events[number].ms)
        self.followees: defaultdict[str, set[str]] = defaultdict(set)
        self.followers: defaultdict[str, set[str]] = defaultdict(set)
        self.follow(follows)

    def follow(self, follows: Iterable[tuple[str, str]]) -> None:
        """Adds edges: (follower, followee)."""
        for follower, followee in follows:
            assert follower != followee
            self.followees[follower].add(followee)
            self.followers[followee].add(follower)

    @property
    def follows(self) -> int:
        return sum(map(len, self.followees.values()))

    def sources(self, user: str) -> set[str]:
        return {user} | self.followees.get(user, set())

    def via(self, user: str, number: int) -> list[str]:
        """Which entities bring an event to a user's feed."""
        followees = self.followees.get(user, ())
        routes = self.events[number].routes
        return sorted({one for one in routes if one == user or one in followees}, key=str.encode)

    def reached(self) -> int:
        """Places in feeds of followers that the events come to, each feed once per event.

        The own feeds of those whose outbox an event goes to are not counted.
        """
        return sum(
            len(
                set[str]()
                .union(*(self.followers.get(entity, ()) for entity in event.routes))
                .difference(event.routes)
            )
            for event in self.events
        )


class Oracle:
    """The outboxes and feeds of a data set if outboxes keep their newest `cap` entries.

    Which entries are the newest is not quite decided by the files, because several events have the
    same second: `settle` is told what an outbox keeps, and refuses what cannot be.
    """

    def __init__(self, data: DataSet, cap: int, refused: Collection[int] = ()) -> None:
        """`refused` are the numbers of events that were not taken, and so are in no outbox."""
        self.data = data
        self.kept: dict[str, frozenset[int]] = {}
        """What each outbox keeps. Of those in `ties`, what it certainly keeps until `settle`."""
        self.ties: dict[str, frozenset[int]] = {}
        """Events of one second, of which an outbox keeps only some."""
        self.dropped_ms: dict[str, int] = {}
        """By trimmed outbox, the time of the newest that it does not keep."""
        self._cap = cap
        gone = frozenset(refused)
        for entity, published in data.published.items():
            self._trim(entity, [number for number in published if number not in gone])

    def _trim(self, entity: str, numbers: list[int]) -> None:
        cap, events = self._cap, self.data.events
        if len(numbers) > cap:
            self.dropped_ms[entity] = events[numbers[cap]].ms
            last = events[numbers[cap - 1]].ms
            if last == events[numbers[cap]].ms:
                self.ties[entity] = frozenset(n for n in numbers if events[n].ms == last)
                cap = next(at for at, n in enumerate(numbers) if events[n].ms == last)
        self.kept[entity] = frozenset(numbers[:cap])

    def settle(self, entity: str, kept: Iterable[int]) -> None:
        """Says which of the events of one second an outbox keeps."""
        found = frozenset(kept)
        assert len(found) == self._cap, entity
        assert self.kept[entity] <= found <= self.kept[entity] | self.ties[entity], entity
        self.kept[entity] = found
        del self.ties[entity]

    def outbox(self, entity: str, *, own_only: bool = False) -> set[int]:
        assert entity not in self.ties
        kept = self.kept.get(entity, frozenset())
        return {n for n in kept if not own_only or self.data.events[n].actor == entity}

    def feed(self, user: str) -> set[int]:
        assert not self.ties, "which events do these outboxes keep?"
        sources = self.data.sources(user)
        return {number for entity in sources for number in self.kept.get(entity, ())}

    def trimmed(self, user: str) -> tuple[int, frozenset[str]]:
        """The time from which down a feed may lack something, and whose outboxes are trimmed there.

        0 if it lacks nothing.
        """
        floors = {
            entity: self.dropped_ms[entity]
            for entity in self.data.sources(user)
            if entity in self.dropped_ms
        }
        highest = max(floors.values(), default=0)
        return highest, frozenset(entity for entity, ms in floors.items() if ms == highest)


def higgs(folder: Path) -> DataSet:
    """Rows of columns: actor target unixtime kind, and follower followee origin."""
    with gzip.open(folder / "activities.tsv.gz", "rt") as file:
        rows = [line.split() for line in file]
    with gzip.open(folder / "follows.tsv.gz", "rt") as file:
        edges = [line.split() for line in file]
    return DataSet(
        (
            Event(actor=actor, verb=HIGGS_VERBS[kind], thing=target, ms=1000 * int(when))
            for actor, target, when, kind in rows
        ),
        ((follower, followee) for follower, followee, _ in edges),
    )


def gharchive(file: Path) -> DataSet:
    """Objects: id, actor, verb, object, target, time, and more. The target gets the event too."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return DataSet(_github_event(json.loads(line)) for line in lines)


def _github_event(line: dict[str, Any]) -> Event:
    taken = ("id", "actor", "verb", "object", "target", "time")
    return Event(
        actor=line["actor"],
        verb=line["verb"],
        thing=line["object"],
        ms=1000 * round(datetime.fromisoformat(line["time"]).timestamp()),
        to=(line["target"],),
        name=line["id"],
        extra={name: value for name, value in line.items() if name not in taken},
    )
