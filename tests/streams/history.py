"""The history of a run of streams: the messages of each subscriber, and what the logs held.

A *chain* is what a subscriber received about a subject from a fresh start on, over streams that
each resumed the one before, until the log was lost or the history ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tests.harness.history import NEVER, History, Publish

SubjectKind = Literal["feed", "outbox", "all"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a subscriber follows: a user's feed, an entity's outbox, or all activities."""

    kind: SubjectKind
    name: str = ""

    def __str__(self) -> str:
        return f"the {self.kind} of {self.name}" if self.name else "all"

    @property
    def log_name(self) -> str:
        """The name of the subject's log in `StreamHistory.broken_logs`."""
        return f"{self.kind} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Event:
    """An event that a subscriber received."""

    kind: str
    target: str = ""
    """The activity's id, or the entity that was followed or unfollowed."""
    number: int = 0
    """The number of the publish that an `added` event shows."""

    def __str__(self) -> str:
        return f"{self.kind} {f'#{self.number}' if self.number else self.target}".strip()

    @property
    def key(self) -> tuple[str, str]:
        """What an event says, however it was read."""
        return self.kind, self.target


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a first message, newest item first."""

    items: tuple[Event, ...]
    is_full: bool
    """True if the feed may hold more items below the page."""


@dataclass(frozen=True, slots=True)
class Message:
    """Events or a checkpoint, and the token that resumes after them."""

    time: float
    token: str
    events: tuple[Event, ...] = ()
    page: Page | None = None

    @property
    def shown(self) -> tuple[Event, ...]:
        """The items of the page, and then the events."""
        return (*(self.page.items if self.page else ()), *self.events)


@dataclass(slots=True)
class StreamRecord:
    """The part of a stream, or of a poll, that concerns one subject."""

    subscriber: str
    subject: Subject
    server: str
    token: str
    """The token that began the stream; empty if the stream began from now on."""
    began: float
    messages: list[Message] = field(default_factory=list)
    ended: float = NEVER
    end: str = ""
    """``left``, ``lost``, or the status with which the stream ended."""
    is_shared: bool = False
    """True if the stream had several subjects, which were added one after another."""
    is_poll: bool = False
    """True for a poll: a stopping server refuses a poll instead of ending it."""


@dataclass(slots=True)
class Chain:
    """Streams of which each resumed the one before."""

    subscriber: str
    subject: Subject
    since: float
    """When the log was certainly written; never, if no message came."""
    parts: list[tuple[StreamRecord, Message]] = field(default_factory=list)
    is_lost: bool = False
    """True if the chain ended because the log no longer reached back to its token."""

    @property
    def page(self) -> Page | None:
        """The page with which the chain began."""
        return self.parts[0][1].page if self.parts else None

    @property
    def paged_ids(self) -> set[str]:
        """The ids of the activities on the page."""
        return {item.target for item in self.page.items} if self.page else set()

    @property
    def events(self) -> list[Event]:
        """All events, in the order in which the subscriber received them."""
        return [event for _, message in self.parts for event in message.events]

    @property
    def tokens(self) -> set[str]:
        """The tokens of all messages."""
        return {message.token for _, message in self.parts}


@dataclass(slots=True)
class Resumption:
    """The events that a token of a chain yields when it is resumed once more at the end."""

    subject: Subject
    token: str
    server: str
    events: tuple[Event, ...] = ()
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of a live log, as the store held it at the end."""

    position: str
    kind: str
    """The kind of the event that the entry becomes."""
    target: str

    @property
    def key(self) -> tuple[str, str]:
        """The key of the event that the entry becomes."""
        return self.kind, self.target


@dataclass
class StreamHistory(History):
    """All that happened in one run of streams."""

    streams: list[StreamRecord] = field(default_factory=list)
    resumptions: list[Resumption] = field(default_factory=list)
    logs: dict[Subject, list[list[LogEntry]]] = field(default_factory=dict)
    """The logs of each subject at the end; the subject "all" has a log in each shard."""
    log_positions: dict[tuple[Subject, str], list[str]] = field(default_factory=dict)
    """The positions that a token stands for, in each log of its subject."""
    markers: dict[str, str] = field(default_factory=dict)
    """The id of the last activity of each entity, published when the service was quiet."""
    quiet_since: float = NEVER
    """When the service had become quiet. All that began before reaches each subscriber."""
    broken_logs: list[tuple[float, str]] = field(default_factory=list)
    """The times at which the harness trimmed or deleted logs, with `Subject.log_name`."""
    may_lose_logs: bool = False
    """True if logs are so short, or leases so brief, that any log may be lost."""

    @cached_property
    def actors(self) -> dict[str, str]:
        """The actor of each activity, by id. Read it only at the end."""
        return {str(publish.id): publish.actor for publish in self.publishes.values()}

    @cached_property
    def _publishes_by_id(self) -> dict[str, Publish]:
        return {str(publish.id): publish for publish in self.publishes.values()}

    def publish_of(self, activity_id: str) -> Publish | None:
        """Return the publish that got an id. Call it only at the end."""
        return self._publishes_by_id.get(activity_id)

    def markers_of(self, subject: Subject) -> set[str]:
        """Return the markers that a subscriber of a subject has received at the end of the log."""
        if subject.kind == "all":
            return set(self.markers.values())
        return {self.markers[subject.name]} if subject.name in self.markers else set()

    def was_read_to_the_end(self, chain: Chain) -> bool:
        """Return whether a chain holds all markers of its subject."""
        added = {event.target for event in chain.events if event.kind == "added"}
        markers = self.markers_of(chain.subject)
        return not chain.is_lost and bool(markers) and markers <= added

    def log_was_broken(self, subject: Subject, since: float = 0.0) -> bool:
        """Return whether the harness broke a subject's log at a time or later."""
        return any(name == subject.log_name and time >= since for time, name in self.broken_logs)


def chains_of(history: StreamHistory) -> Iterator[Chain]:
    """Yield the chains of all subscribers, those of each subscriber in the order of time."""
    by_subscriber: dict[tuple[str, Subject], list[StreamRecord]] = {}
    for stream in history.streams:
        by_subscriber.setdefault((stream.subscriber, stream.subject), []).append(stream)
    for streams in by_subscriber.values():
        yield from _chains_of_subscriber(streams)


def _chains_of_subscriber(streams: list[StreamRecord]) -> Iterator[Chain]:
    """Yield the chains of one subscriber and one subject."""
    chain: Chain | None = None
    previous: StreamRecord | None = None
    for stream in streams:
        if chain is None or chain.is_lost or not stream.token:
            if chain is not None:
                yield chain
            # The answer that said that the log was lost had a new log written.
            since = previous.ended if previous is not None and stream.token else NEVER
            chain = Chain(stream.subscriber, stream.subject, since)
        for message in stream.messages:
            kinds = [event.kind for event in message.events]
            if "reset" in kinds or ("created" in kinds and chain.parts):
                chain.is_lost = "reset" in kinds
                yield chain
                chain = Chain(stream.subscriber, stream.subject, message.time)
            chain.since = min(chain.since, message.time)
            chain.parts.append((stream, message))
        chain.is_lost = stream.end == "lost"
        previous = stream
    if chain is not None:
        yield chain
