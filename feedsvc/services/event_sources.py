"""Event sources: the logs that a stream reads, and how their entries become events and tokens.

An event source makes events in the wire's format. The item of an activity is the same for all
followers of its actor, so one item serves all their streams. Serialised messages that stand one
after the other parse as one message.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from activityfeed.v1 import subscription_service_pb2 as pb

from feedsvc import paging, wire
from feedsvc.contract_limits import MESSAGE_EVENT_BYTES, MESSAGE_EVENTS
from feedsvc.core.engine import Engine
from feedsvc.core.live_logs import Entry, Log
from feedsvc.core.pages import Cursor
from feedsvc.core.streams import Stream
from feedsvc.errors import ResumeTokenExpired
from feedsvc.services.feed_pages import FeedQuery, feed_items, feed_page, outbox_resume_scope
from feedsvc.tokens import Tokens

#: Items that the process keeps at most, for the streams of further followers.
SHARED_ITEMS = 256

_shared_items: dict[str, tuple[bytes, bytes]] = {}
"""The frame of an activity and the FeedItem made of it, by the activity's id."""


class LogEvents(NamedTuple):
    """The entries that a read of a log returned, and their events."""

    log_index: int
    """The log's index in ``EventSource.logs``."""
    entries: list[Entry]
    """The entries of the log."""
    events: list[bytes]
    """The serialised event of each entry; empty for an entry that has no event any more."""


class _MessageLayout(NamedTuple):
    """The tags of the fields that the messages of a stream may hold."""

    resume_token: bytes
    started: bytes
    events: bytes
    heartbeat: bytes

    @classmethod
    def of(cls, response: type[Any]) -> Self:
        """Return the layout of one kind of message."""
        fields = response.DESCRIPTOR.fields_by_name
        return cls(*(bytes([fields[name].number << 3 | 2]) for name in cls._fields))


def _event(entry: Entry, change: bytes) -> bytes:
    """Return the field ``events`` of one event. The log's positions carry the store's clock."""
    ms = int(entry.position.partition("-")[2]) // 1_000
    return wire.field(wire.FIELD_1, wire.timestamp(wire.FIELD_1, ms) + change)


class EventSource(ABC):
    """The source of one subscription's events: its logs, and the client's positions in them."""

    layout: _MessageLayout
    """The layout of the messages that carry the events."""
    started: type[Any]
    """The type of the field ``started`` in the first message."""

    def __init__(self, engine: Engine, tokens: Tokens, *scope: str, prefix: bytes = b"") -> None:
        """Make a source that has not begun.

        ``scope`` is the scope of its resume tokens. ``prefix`` begins each of its messages.
        """
        self.engine = engine
        self.tokens = tokens
        self.log_positions: list[str] = []
        """The position of the last entry that was sent, or passed over, in each log."""
        self._scope = scope
        self._seal = tokens.log_sealer(*scope)
        self._prefix = prefix

    async def begin(self, resume_token: str) -> None:
        """Set the positions to begin at. Raise ResumeTokenInvalid for a token of another scope.

        Without a token the source begins at the ends of its logs.
        """
        self.log_positions = (
            self.read_resume_token(resume_token) if resume_token else await self.open_logs()
        )

    def follow(self, stream: Stream) -> None:
        """Let a stream follow the logs, from the positions on."""
        logs = zip(self.logs(), self.log_positions, strict=True)
        for log_index, (log, log_position) in enumerate(logs):
            stream.follow(log, log_position, log_index)

    async def expired_error(self) -> ResumeTokenExpired:
        """Return the error for positions that the logs no longer reach back to.

        The source then stands at the ends of its logs, and the error has the token for that.
        """
        self.log_positions = await self.open_logs()
        return ResumeTokenExpired(
            "the log no longer reaches back to resume_token, so events are missing: read again, "
            "and subscribe with the resume_token of the error's metadata",
            self.resume_token(),
        )

    @abstractmethod
    def logs(self) -> Sequence[Log]:
        """Return the logs."""

    @abstractmethod
    async def open_logs(self) -> list[str]:
        """Have the store write the logs for another lease. Return the positions of their ends."""

    def resume_token(self) -> str:
        """Return the resume token of the positions."""
        return self._seal(self.log_positions)

    def read_resume_token(self, resume_token: str) -> list[str]:
        """Return the positions of a resume token. Raise ResumeTokenInvalid."""
        return self.tokens.read_log_positions(resume_token, len(self.logs()), *self._scope)

    @abstractmethod
    async def events(self, entries: list[Entry]) -> list[bytes]:
        """Return the serialised event of each entry; empty if a later change has overtaken it."""

    def messages(self, log_reads: Iterable[LogEvents]) -> Iterator[bytes]:
        """Yield the messages with the events, as few messages as their bounds allow.

        The source makes a message when the caller asks for it, and moves its positions on. The
        message's token names the positions of the last entries that the message holds or passes
        over: a client that resumes with the token misses nothing.
        """
        pending: list[bytes] = []
        pending_bytes = 0
        for log_index, entries, events in log_reads:
            for entry, event in zip(entries, events, strict=True):
                fits = pending_bytes + len(event) <= MESSAGE_EVENT_BYTES
                if pending and not (fits and len(pending) < MESSAGE_EVENTS):
                    yield self._message(self.layout.events, b"".join(pending))
                    pending, pending_bytes = [], 0
                if event:
                    pending.append(event)
                    pending_bytes += len(event)
                self.log_positions[log_index] = entry.position
        if pending:
            yield self._message(self.layout.events, b"".join(pending))

    def started_message(self, start: pb.SubscriptionStart, page: bytes = b"") -> bytes:
        """Return the message that says how the subscription starts, with a feed page if given."""
        started: bytes = self.started(start=start).SerializeToString()
        if page:
            started += wire.field(wire.FIELD_2, page)
        return self._message(self.layout.started, started)

    def heartbeat_message(self) -> bytes:
        """Return the message that holds only the token of the positions."""
        return self._message(self.layout.heartbeat, b"")

    def _message(self, tag: bytes, content: bytes) -> bytes:
        token = wire.field(self.layout.resume_token, self.resume_token().encode())
        return self._prefix + token + wire.field(tag, content)


class FeedEvents(EventSource):
    """The events of a user's feed."""

    layout = _MessageLayout.of(pb.SubscribeFeedResponse)
    started = pb.FeedSubscriptionStarted

    def __init__(
        self, engine: Engine, tokens: Tokens, query: FeedQuery, prefix: bytes = b""
    ) -> None:
        super().__init__(engine, tokens, *query.resume_scope, prefix=prefix)
        self.query = query
        self._shown_ids: set[str] = set()
        """Ids of the activities on the first page."""

    async def first_page(self, requested_size: int) -> bytes:
        """Return the newest page, serialised, and begin at the log's end as that read saw it."""
        (log_end,) = await self.open_logs()
        size = paging.clamp_page_size(requested_size)
        page = await self.engine.feeds.page(self.query.user, Cursor(), size)
        self.log_positions = [page.log_tail or log_end]
        self._shown_ids = {str(activity_id) for activity_id, _ in page.items}
        return await feed_page(self.engine, self.tokens, self.query, page)

    def logs(self) -> list[Log]:
        """Return the log of the user's feed."""
        return [self.engine.logs.of_feed(self.query.user)]

    async def open_logs(self) -> list[str]:
        """Have the feed's log written; return the position at its end."""
        return [await self.engine.start_log(self.query.user)]

    async def events(self, entries: list[Entry]) -> list[bytes]:
        """Return the event of each entry, serialised; empty if an entry is not shown."""
        # The bodies were read with the log, not when the entries were written. An activity that was
        # deleted in between has no body, and no event.
        stored = [
            (int(entry.subject), entry.frame)
            for entry in entries
            if entry.frame is not None and entry.subject not in self._shown_ids
        ]
        viewers, viewer = self.engine.viewers, self.query.viewer
        visible_ids = {activity_id for activity_id, _ in await viewers.activities(viewer, stored)}
        added = [
            entry
            for entry in entries
            if entry.frame is not None and int(entry.subject) in visible_ids
        ]
        items = {entry.subject: self._shared_item(entry) for entry in added}
        if without_item := [entry for entry in added if not items[entry.subject]]:
            items |= await self._own_items(without_item)
        events = []
        for entry in entries:
            match entry.kind:
                case "added":
                    item = items.get(entry.subject)
                    events.append(_event(entry, wire.field(wire.FIELD_2, item)) if item else b"")
                case "removed":
                    self._shown_ids.discard(entry.subject)
                    removed = pb.FeedItemRemoved(
                        item_id=entry.subject, reason=pb.REMOVAL_REASON_DELETED
                    )
                    events.append(
                        _event(entry, wire.field(wire.FIELD_3, removed.SerializeToString()))
                    )
                case "followed" | "unfollowed":
                    change = pb.FeedSourceChanged(
                        entity=entry.subject, following=entry.kind == "followed"
                    )
                    events.append(
                        _event(entry, wire.field(wire.FIELD_4, change.SerializeToString()))
                    )
                case _:
                    events.append(b"")
        return events

    def _shared_item(self, entry: Entry) -> bytes:
        """Return the item of an added activity whose only route the user follows.

        This item is the same for every user. Return no bytes for any other activity.
        """
        frame = entry.frame
        if not entry.route or frame is None or wire.has_to(frame):
            return b""
        shared = _shared_items.get(entry.subject)
        if shared is not None and shared[0] == frame:
            return shared[1]
        if len(_shared_items) >= SHARED_ITEMS:
            _shared_items.clear()
        item = wire.feed_item(int(entry.subject), frame)
        _shared_items[entry.subject] = frame, item
        return item

    async def _own_items(self, entries: list[Entry]) -> dict[str, bytes]:
        """Return the items of added activities whose routes depend on what the user follows.

        These activities have several routes, or possibly none any more.
        """
        items: dict[int, bytes] = {}
        for route_followed in (True, False):
            stored = [
                (int(entry.subject), entry.frame)
                for entry in entries
                if entry.frame is not None and bool(entry.route) is route_followed
            ]
            items |= await feed_items(self.engine, self.query, stored, just_read=route_followed)
        return {str(activity_id): item for activity_id, item in items.items()}


class MultiplexedFeedEvents(FeedEvents):
    """The events of a user's feed on a stream with other feeds."""

    layout = _MessageLayout.of(pb.SubscribeFeedsResponse)


class _ActivityEvents(EventSource):
    """Events with activities instead of feed items."""

    started = pb.ActivitySubscriptionStarted

    def __init__(self, engine: Engine, tokens: Tokens, viewer: str, *scope: str) -> None:
        super().__init__(engine, tokens, *scope)
        self.viewer = viewer

    async def events(self, entries: list[Entry]) -> list[bytes]:
        stored = [(int(entry.subject), entry.frame) for entry in entries if entry.frame is not None]
        visible = dict(await self.engine.viewers.activities(self.viewer, stored))
        events = []
        for entry in entries:
            if entry.kind == "added" and entry.frame is not None and int(entry.subject) in visible:
                viewed = wire.viewed_activity(int(entry.subject), entry.frame)
                events.append(_event(entry, wire.field(wire.FIELD_2, viewed)))
            elif entry.kind == "removed":
                actor, _, external_id = entry.route.partition("\0")
                removed = pb.ActivityRemoved(
                    activity_id=entry.subject,
                    actor=actor,
                    external_id=external_id,
                    reason=pb.REMOVAL_REASON_DELETED,
                )
                events.append(_event(entry, wire.field(wire.FIELD_3, removed.SerializeToString())))
            else:
                events.append(b"")
        return events


class OutboxEvents(_ActivityEvents):
    """The events of an entity's outbox."""

    layout = _MessageLayout.of(pb.SubscribeActivitiesResponse)

    def __init__(self, engine: Engine, tokens: Tokens, entity: str, viewer: str, view: str) -> None:
        super().__init__(engine, tokens, viewer, *outbox_resume_scope(entity, viewer, view))
        self._log = engine.logs.of_outbox(entity)

    def logs(self) -> list[Log]:
        """Return the log of the entity's outbox."""
        return [self._log]

    async def open_logs(self) -> list[str]:
        """Have the outbox's log written; return the position at its end."""
        return [await self.engine.logs.open(self._log)]


class AllEvents(_ActivityEvents):
    """The events of all activities that are published. Each shard has a log of them."""

    layout = _MessageLayout.of(pb.SubscribeAllResponse)

    def __init__(self, engine: Engine, tokens: Tokens, view: str) -> None:
        super().__init__(engine, tokens, "", "all log", view)

    def logs(self) -> list[Log]:
        """Return the logs of all shards."""
        return self.engine.logs.of_all()

    async def open_logs(self) -> list[str]:
        """Have all logs written; return the position at the end of each."""
        return list(await asyncio.gather(*map(self.engine.logs.open, self.logs())))
