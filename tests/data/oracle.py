"""The oracle: the feeds of a data set, computed from its files alone.

Plain Python that knows nothing of Redis, of the service, or of the importer.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

#: Verbs of the kinds of activities in the Higgs data.
HIGGS_VERBS = {"RT": "share", "MT": "mention", "RE": "reply"}


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a file: an activity before the service has it."""

    actor: str
    verb: str
    object_id: str
    """The object of the activity."""
    ms: int
    """The activity's time in Unix milliseconds."""
    to: tuple[str, ...] = ()
    """Entities whose followers get the activity too."""
    name: str | None = None
    """The id in the line; None if the line has no id."""
    extra: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)
    """All other values of the line."""

    @property
    def routes(self) -> tuple[str, ...]:
        """The entities whose outboxes get the activity."""
        return (self.actor, *self.to)


class DataSet:
    """The events and edges of the files, by number and by entity."""

    def __init__(self, events: Iterable[Event], follows: Iterable[tuple[str, str]] = ()) -> None:
        self.events = list(events)
        self.numbers = {event: number for number, event in enumerate(self.events)}
        assert len(self.numbers) == len(self.events), "two lines of the data set are equal"
        self.published: defaultdict[str, list[int]] = defaultdict(list)
        """By entity, the numbers of the events that its outbox gets, newest first."""
        for number, event in enumerate(self.events):
            for entity in event.routes:
                self.published[entity].append(number)
        for numbers in self.published.values():
            numbers.sort(key=lambda number: -self.events[number].ms)
        self.followees: defaultdict[str, set[str]] = defaultdict(set)
        self.followers: defaultdict[str, set[str]] = defaultdict(set)
        self.follow(follows)

    def follow(self, follows: Iterable[tuple[str, str]]) -> None:
        """Add edges: (follower, followee)."""
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
        """Return the entities through which an event is in a user's feed."""
        followees = self.followees.get(user, ())
        routes = self.events[number].routes
        entities = {entity for entity in routes if entity == user or entity in followees}
        return sorted(entities, key=str.encode)

    def delivery_count(self) -> int:
        """Return the number of deliveries: each event counts once for each follower's feed.

        The feeds of the entities whose outboxes get the event do not count.
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

    The files do not fully order events, because several have the same second. `settle` takes the
    events that an outbox keeps in the service, and refuses events that it cannot keep.
    """

    def __init__(self, data: DataSet, cap: int, refused: Collection[int] = ()) -> None:
        """Compute the outboxes. No outbox has the events whose numbers are in `refused`."""
        self.data = data
        self.kept: dict[str, frozenset[int]] = {}
        """By entity, the events that its outbox keeps; before `settle` the certain ones."""
        self.ties: dict[str, frozenset[int]] = {}
        """By entity, events of the same second of which its outbox keeps a part."""
        self.dropped_ms: dict[str, int] = {}
        """By entity with a trimmed outbox, the time of the newest event that the outbox drops."""
        self._cap = cap
        refused = frozenset(refused)
        for entity, published in data.published.items():
            self._trim(entity, [number for number in published if number not in refused])

    def _trim(self, entity: str, numbers: list[int]) -> None:
        cap, events = self._cap, self.data.events
        if len(numbers) > cap:
            self.dropped_ms[entity] = events[numbers[cap]].ms
            last = events[numbers[cap - 1]].ms
            if last == events[numbers[cap]].ms:
                self.ties[entity] = frozenset(n for n in numbers if events[n].ms == last)
                cap = next(index for index, n in enumerate(numbers) if events[n].ms == last)
        self.kept[entity] = frozenset(numbers[:cap])

    def settle(self, entity: str, kept: Iterable[int]) -> None:
        """Take the events that an outbox keeps, where the files do not decide it."""
        numbers = frozenset(kept)
        assert len(numbers) == self._cap, entity
        assert self.kept[entity] <= numbers <= self.kept[entity] | self.ties[entity], entity
        self.kept[entity] = numbers
        del self.ties[entity]

    def outbox(self, entity: str, *, own_only: bool = False) -> set[int]:
        assert entity not in self.ties
        kept = self.kept.get(entity, frozenset())
        return {n for n in kept if not own_only or self.data.events[n].actor == entity}

    def feed(self, user: str) -> set[int]:
        assert not self.ties, f"settle these outboxes first: {sorted(self.ties)[:10]}"
        sources = self.data.sources(user)
        return {number for entity in sources for number in self.kept.get(entity, ())}

    def trimmed(self, user: str) -> tuple[int, frozenset[str]]:
        """Return the time below which a feed may be incomplete, and the entities trimmed there.

        The time is 0 if the feed is complete.
        """
        floors = {
            entity: self.dropped_ms[entity]
            for entity in self.data.sources(user)
            if entity in self.dropped_ms
        }
        highest = max(floors.values(), default=0)
        return highest, frozenset(entity for entity, ms in floors.items() if ms == highest)


def higgs(folder: Path) -> DataSet:
    """Read rows of `actor target unixtime kind` and rows of `follower followee origin`."""
    with gzip.open(folder / "activities.tsv.gz", "rt") as file:
        rows = [line.split() for line in file]
    with gzip.open(folder / "follows.tsv.gz", "rt") as file:
        edges = [line.split() for line in file]
    return DataSet(
        (
            Event(actor=actor, verb=HIGGS_VERBS[kind], object_id=target, ms=1000 * int(when))
            for actor, target, when, kind in rows
        ),
        ((follower, followee) for follower, followee, _ in edges),
    )


def gharchive(file: Path) -> DataSet:
    """Read JSON lines. The outbox of a line's target gets the event too."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return DataSet(_github_event(json.loads(line)) for line in lines)


def _github_event(line: dict[str, Any]) -> Event:
    named = ("id", "actor", "verb", "object", "target", "time")
    return Event(
        actor=line["actor"],
        verb=line["verb"],
        object_id=line["object"],
        ms=1000 * round(datetime.fromisoformat(line["time"]).timestamp()),
        to=(line["target"],),
        name=line["id"],
        extra={name: value for name, value in line.items() if name not in named},
    )
