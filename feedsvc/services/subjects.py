"""What a stream is about: which logs it reads, and how their entries become events and tokens.

Events are made in the wire's format: the item of an activity is the same for all who follow its
actor, and so is made once. Serialised messages that are put one after the other are one message.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import convert, wire
from feedsvc.bounds import EVENT_BYTES
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry, Log
from feedsvc.core.pages import Cursor
from feedsvc.core.streams import Stream
from feedsvc.errors import ResumeTokenExpired
from feedsvc.services.items import FeedQuery, feed_items, feed_page, outbox_bound
from feedsvc.tokens import Tokens

#: Items that are kept to be sent to others too.
KEPT = 256

_kept: dict[str, tuple[bytes, bytes]] = {}
"""By activity: its frame, and the FeedItem that was made of it."""


class _Layout(NamedTuple):
    """The tags of what the messages of a stream may hold."""

    resume_token: bytes
    started: bytes
    events: bytes
    heartbeat: bytes

    @classmethod
    def of(cls, response: type[Any]) -> Self:
        """The layout of one kind of message."""
        fields = response.DESCRIPTOR.fields_by_name
        return cls(*(bytes([fields[name].number << 3 | 2]) for name in cls._fields))


def _event(entry: Entry, what: bytes) -> bytes:
    """The field ``events`` of one event of a log, whose entries carry the store's clock."""
    ms = int(entry.place.partition("-")[2]) // 1_000
    return wire.field(wire.FIRST, wire.timestamp(wire.FIRST, ms) + what)


class Subject(ABC):
    """What a stream is about."""

    layout: _Layout
    """That of the messages that tell of it."""
    started: type[Any]
    """What they say at the beginning."""

    def __init__(self, engine: Engine, tokens: Tokens, *bound: str, about: bytes = b"") -> None:
        """``bound`` is what its tokens are bound to; ``about`` begins each of its messages."""
        self.engine = engine
        self.tokens = tokens
        self.places: list[str] = []
        """Where it is in each of its logs."""
        self._bound = bound
        self._seal = tokens.logs(*bound)
        self._about = about

    async def begin(self, resume_token: str) -> None:
        """Find the places to begin at. Raises ResumeTokenInvalid."""
        self.places = self.read_token(resume_token) if resume_token else await self.open()

    def follow(self, stream: Stream) -> None:
        """Have a stream follow its logs, from its places on."""
        for number, (log, place) in enumerate(zip(self.logs(), self.places, strict=True)):
            stream.follow(log, place, number)

    async def expired(self) -> ResumeTokenExpired:
        """Return the error for places that the logs no longer reach back to."""
        self.places = await self.open()
        return ResumeTokenExpired(
            "the log no longer reaches back to resume_token: events are missing", self.token()
        )

    @abstractmethod
    def logs(self) -> Sequence[Log]:
        """Return its logs."""

    @abstractmethod
    async def open(self) -> list[str]:
        """Have its logs written; return the places at their ends."""

    def token(self) -> str:
        """Return a resume token for its places."""
        return self._seal(self.places)

    def read_token(self, resume_token: str) -> list[str]:
        """Return the places that a token stands for. Raises ResumeTokenInvalid."""
        return self.tokens.read_logs(resume_token, len(self.logs()), *self._bound)

    @abstractmethod
    async def events(self, entries: list[Entry]) -> list[bytes]:
        """Return the event of each entry; empty: it has been overtaken, and is not told."""

    def messages(self, told: Iterable[tuple[int, list[Entry], list[bytes]]]) -> Iterator[bytes]:
        """Yield the messages that tell events, as few as their bytes allow.

        ``told`` has, for each log that was read, its number, its entries and the event of each.
        Every message is made when it is asked for, and its token names the places of the last
        entries that it tells or that came before it: whoever resumes with it misses nothing.
        """
        events: list[bytes] = []
        size = 0
        for number, entries, pieces in told:
            for entry, piece in zip(entries, pieces, strict=True):
                if events and size + len(piece) > EVENT_BYTES:
                    yield self._message(self.layout.events, b"".join(events))
                    events, size = [], 0
                if piece:
                    events.append(piece)
                    size += len(piece)
                self.places[number] = entry.place
        if events:
            yield self._message(self.layout.events, b"".join(events))

    def beginning(self, start: pb.SubscriptionStart, page: bytes = b"") -> bytes:
        """Return the message that says how it begins, with a page of a feed if there is one."""
        started: bytes = self.started(start=start).SerializeToString()
        if page:
            started += wire.field(wire.SECOND, page)
        return self._message(self.layout.started, started)

    def heartbeat(self) -> bytes:
        """Return the message that says how far it is, and nothing else."""
        return self._message(self.layout.heartbeat, b"")

    def _message(self, tag: bytes, what: bytes) -> bytes:
        token = wire.field(self.layout.resume_token, self.token().encode())
        return self._about + token + wire.field(tag, what)


class FeedSubject(Subject):
    """A user's feed."""

    layout = _Layout.of(pb.SubscribeFeedResponse)
    started = pb.FeedSubscriptionStarted

    def __init__(
        self, engine: Engine, tokens: Tokens, query: FeedQuery, about: bytes = b""
    ) -> None:
        super().__init__(engine, tokens, *query.resume_bound, about=about)
        self.query = query
        self._shown: set[str] = set()
        """Ids that the first page showed."""

    async def first_page(self, size: int) -> bytes:
        """Return the newest page, and begin at the place that it was read at."""
        (begun,) = await self.open()
        page = await self.engine.feeds.page(self.query.user, Cursor(), convert.page_size(size))
        self.places = [page.log_tail or begun]
        self._shown = {str(activity_id) for activity_id, _ in page.items}
        return await feed_page(self.engine, self.tokens, self.query, page)

    def logs(self) -> list[Log]:
        return [self.engine.logs.of_feed(self.query.user)]

    async def open(self) -> list[str]:
        return [await self.engine.start_log(self.query.user)]

    async def events(self, entries: list[Entry]) -> list[bytes]:
        # Bodies were read with the log, not when the entry was written: what is gone by then is not
        # told.
        there = [
            (int(entry.what), entry.body)
            for entry in entries
            if entry.body is not None and entry.what not in self._shown
        ]
        seen = {one for one, _ in await self.engine.viewers.activities(self.query.viewer, there)}
        added = [entry for entry in entries if entry.body is not None and int(entry.what) in seen]
        items = {entry.what: self._item(entry) for entry in added}
        if unsure := [entry for entry in added if not items[entry.what]]:
            items |= await self._asked(unsure)
        events = []
        for entry in entries:
            match entry.kind:
                case "added":
                    item = items.get(entry.what)
                    events.append(_event(entry, wire.field(wire.SECOND, item)) if item else b"")
                case "removed":
                    self._shown.discard(entry.what)
                    removed = pb.FeedItemRemoved(
                        item_id=entry.what, reason=pb.REMOVAL_REASON_DELETED
                    )
                    events.append(
                        _event(entry, wire.field(wire.THIRD, removed.SerializeToString()))
                    )
                case "followed" | "unfollowed":
                    change = pb.FeedSourceChanged(
                        entity=entry.what, following=entry.kind == "followed"
                    )
                    events.append(
                        _event(entry, wire.field(wire.FOURTH, change.SerializeToString()))
                    )
                case _:
                    events.append(b"")
        return events

    def _item(self, entry: Entry) -> bytes:
        """The item of an added activity whose route is followed and the only one; else empty."""
        frame = entry.body
        if not entry.route or frame is None or wire.has_to(frame):
            return b""
        known = _kept.get(entry.what)
        if known is not None and known[0] == frame:
            return known[1]
        if len(_kept) >= KEPT:
            _kept.clear()
        item = wire.feed_item(int(entry.what), frame)
        _kept[entry.what] = frame, item
        return item

    async def _asked(self, entries: list[Entry]) -> dict[str, bytes]:
        """The items of added activities that have several routes, or maybe none any more."""
        items: dict[int, bytes] = {}
        for followed in (True, False):
            found = [
                (int(entry.what), entry.body)
                for entry in entries
                if entry.body is not None and bool(entry.route) is followed
            ]
            items |= await feed_items(self.engine, self.query, found, just_read=followed)
        return {str(activity_id): item for activity_id, item in items.items()}


class GatewaySubject(FeedSubject):
    """A user's feed, on a stream with others."""

    layout = _Layout.of(pb.SubscribeFeedsResponse)


class _Activities(Subject):
    """What is told as activities, not as feed items."""

    started = pb.ActivitySubscriptionStarted

    def __init__(self, engine: Engine, tokens: Tokens, viewer: str, *bound: str) -> None:
        super().__init__(engine, tokens, *bound)
        self.viewer = viewer

    async def events(self, entries: list[Entry]) -> list[bytes]:
        added = [(int(one.what), one.body) for one in entries if one.body is not None]
        seen = dict(await self.engine.viewers.activities(self.viewer, added))
        events = []
        for entry in entries:
            if entry.kind == "added" and entry.body is not None and int(entry.what) in seen:
                viewed = wire.viewed_activity(int(entry.what), entry.body)
                events.append(_event(entry, wire.field(wire.SECOND, viewed)))
            elif entry.kind == "removed":
                actor, _, external_id = entry.route.partition("\0")
                removed = pb.ActivityRemoved(
                    activity_id=entry.what,
                    actor=actor,
                    external_id=external_id,
                    reason=pb.REMOVAL_REASON_DELETED,
                )
                events.append(_event(entry, wire.field(wire.THIRD, removed.SerializeToString())))
            else:
                events.append(b"")
        return events


class OutboxSubject(_Activities):
    """An entity's outbox."""

    layout = _Layout.of(pb.SubscribeActivitiesResponse)

    def __init__(self, engine: Engine, tokens: Tokens, entity: str, viewer: str, view: str) -> None:
        super().__init__(engine, tokens, viewer, *outbox_bound(entity, viewer, view))
        self._log = engine.logs.of_outbox(entity)

    def logs(self) -> list[Log]:
        return [self._log]

    async def open(self) -> list[str]:
        return [await self.engine.logs.open(self._log)]


class AllSubject(_Activities):
    """All that is published."""

    layout = _Layout.of(pb.SubscribeAllResponse)

    def __init__(self, engine: Engine, tokens: Tokens, view: str) -> None:
        super().__init__(engine, tokens, "", "all log", view)

    def logs(self) -> list[Log]:
        return self.engine.logs.of_all()

    async def open(self) -> list[str]:
        return list(await asyncio.gather(*map(self.engine.logs.open, self.logs())))
