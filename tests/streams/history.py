"""What subscribers were told, beside what was done, of which ``tests.faults.history`` knows.

All times are seconds of the harness's clock. A *chain* is what one subscriber was told about one
subject from a fresh beginning on, over streams that each resumed the one before, until the log was
lost or the history ended.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.history import NEVER, Change, History, Publish

Kind = Literal["feed", "outbox", "all"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is followed: somebody's feed, an entity's outbox, or all that is published."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"the {self.kind} of {self.name}" if self.name else "all"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a subscriber was told."""

    kind: str
    what: str = ""
    """The activity's id, or the entity that was followed or unfollowed."""
    number: int = 0
    """Of what was added: the publish that it came from."""

    def __str__(self) -> str:
        return f"{self.kind} {f'#{self.number}' if self.number else self.what}".strip()


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a first message, newest first."""

    items: tuple[Event, ...]
    full: bool
    """Whether there may be more below."""


@dataclass(frozen=True, slots=True)
class Message:
    """Events, or a checkpoint, and the token to go on from after them."""

    at: float
    token: str
    events: tuple[Event, ...] = ()
    page: Page | None = None


@dataclass(slots=True)
class Told:
    """One stream, or one poll, as far as it was about one subject."""

    subscriber: str
    subject: Subject
    server: str
    token: str
    """That it was begun with; empty: from now on."""
    began: float
    messages: list[Message] = field(default_factory=list)
    ended: float = NEVER
    how: str = ""
    """``left``, ``lost``, or the status that it ended with."""
    many: bool = False
    """Whether it was about others too, who were added one after another."""
    polled: bool = False
    """Whether it was a poll: a stopping server refuses it instead of ending it."""


@dataclass(slots=True)
class Chain:
    """Streams of which each resumed the one before."""

    subscriber: str
    subject: Subject
    since: float
    """From when on the log is certain to have been written; never: nothing was told."""
    parts: list[tuple[Told, Message]] = field(default_factory=list)
    lost: bool = False
    """Whether it ended because the log no longer reached back."""

    @property
    def page(self) -> Page | None:
        return self.parts[0][1].page if self.parts else None

    @property
    def events(self) -> list[Event]:
        return [event for _, message in self.parts for event in message.events]

    @property
    def tokens(self) -> set[str]:
        return {message.token for _, message in self.parts}


@dataclass(slots=True)
class Replay:
    """What one token of a chain gave when it was resumed once more, at rest."""

    subject: Subject
    token: str
    server: str
    events: tuple[Event, ...] = ()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of a log, as it stood in the store at rest."""

    place: str
    kind: str
    """As that of the event which tells it."""
    what: str


@dataclass(slots=True)
class StreamHistory(History):
    """Everything about one world and its subscribers."""

    told: list[Told] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    logs: dict[Subject, list[list[Logged]]] = field(default_factory=dict)
    """What the logs of subjects held at rest; that of all has as many as there are shards."""
    places: dict[tuple[Subject, str], list[str]] = field(default_factory=dict)
    """What tokens stand for: a place in each log of their subject."""
    markers: dict[str, str] = field(default_factory=dict)
    """By entity, the id of what it published last, at rest."""
    settled_at: float = NEVER
    """When it had come to rest; what began before has been told by then."""
    broken_logs: list[tuple[float, str]] = field(default_factory=list)
    """When the harness trimmed or deleted which log, as ``log_name`` names it."""
    fragile: bool = False
    """Whether logs are so short, or kept for such a short time, that any may be lost."""

    _edges: dict[tuple[str, str], list[Change]] = field(default_factory=dict)
    _actors: dict[str, str] = field(default_factory=dict)
    _by_id: dict[str, Publish] = field(default_factory=dict)

    def edge(self, user: str, name: str) -> list[Change]:
        """All changes of an edge, in order. Nothing may be added any more."""
        if not self._edges:
            self._edges = defaultdict(list)
            for one in sorted(self.changes, key=lambda change: change.began):
                self._edges[one.follower, one.followee].append(one)
        return self._edges.get((user, name), [])

    @property
    def actors(self) -> dict[str, str]:
        """Who published what, by the activity's id. Nothing may be added any more."""
        if not self._actors:
            self._actors = {str(one.id): one.actor for one in self.publishes.values()}
        return self._actors

    def published_as(self, activity_id: str) -> Publish | None:
        """What got an id. Nothing may be added any more."""
        if not self._by_id:
            self._by_id = {str(one.id): one for one in self.publishes.values()}
        return self._by_id.get(activity_id)

    def marked(self, subject: Subject) -> set[str]:
        """The ids that who follows a subject has been told when it has been told everything."""
        if subject.kind == "all":
            return set(self.markers.values())
        return {self.markers[subject.name]} if subject.name in self.markers else set()


def log_name(subject: Subject) -> str:
    """The log of a subject as the harness notes it."""
    return f"{subject.kind} {subject.name}".strip()


def chains(history: StreamHistory) -> Iterator[Chain]:
    """The chains of all subscribers, in the order of time for each."""
    by_follower: dict[tuple[str, Subject], list[Told]] = {}
    for told in history.told:
        by_follower.setdefault((told.subscriber, told.subject), []).append(told)
    for streams in by_follower.values():
        yield from _chains(streams)


def _chains(streams: list[Told]) -> Iterator[Chain]:
    """The chains of one subscriber to one subject."""
    chain: Chain | None = None
    before: Told | None = None
    for told in streams:
        if chain is None or chain.lost or not told.token:
            if chain is not None:
                yield chain
            # The answer that said that the log was lost had it written anew.
            since = before.ended if before is not None and told.token else NEVER
            chain = Chain(told.subscriber, told.subject, since)
        for message in told.messages:
            kinds = [event.kind for event in message.events]
            if "reset" in kinds or ("created" in kinds and chain.parts):
                chain.lost = "reset" in kinds
                yield chain
                chain = Chain(told.subscriber, told.subject, message.at)
            chain.since = min(chain.since, message.at)
            chain.parts.append((told, message))
        chain.lost = told.how == "lost"
        before = told
    if chain is not None:
        yield chain


def whole(history: StreamHistory, chain: Chain) -> bool:
    """Whether a chain has been told everything."""
    added = {event.what for event in chain.events if event.kind == "added"}
    marked = history.marked(chain.subject)
    return not chain.lost and bool(marked) and marked <= added
