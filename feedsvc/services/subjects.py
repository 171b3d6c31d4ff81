"""What a stream is about: which logs it reads, and how their entries become events and tokens.

Events are made in the wire's format: those of one activity are the same for all who follow its
actor, and so are made once. Serialised messages that are put one after the other are one message.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.feed_pb2 import FeedPage
from google.protobuf.message import Message

from feedsvc import convert
from feedsvc.bounds import EVENT_BYTES
from feedsvc.core.engine import Engine
from feedsvc.core.feed import Cursor
from feedsvc.core.streams import Entry, Log, Stream
from feedsvc.errors import ResumeTokenExpired
from feedsvc.services.items import add_items, fill_tokens, resume_bound
from feedsvc.tokens import Tokens

#: Events that are kept to be sent to others too.
KEPT = 256

_kept: dict[tuple[type[Message], str, str], tuple[bytes, bytes]] = {}
"""By kind of message, activity and route: the body, and the event that was made of it."""


class Subject(ABC):
    """What a stream is about."""

    response: type[Any]
    """The messages that tell of it; they have ``events`` and a ``resume_token``."""

    def __init__(self, engine: Engine, tokens: Tokens, *bound: str) -> None:
        """``bound`` is what its resume tokens are bound to."""
        self.engine = engine
        self.tokens = tokens
        self.places: list[str] = []
        """Where it is in each of its logs."""
        self._bound = bound
        self._seal = tokens.logs(*bound)
        self._about = b""
        """What its messages say beside the token."""

    async def begin(self, resume_token: str) -> list[bytes]:
        """Finds the places to begin at; the events to send first.

        Raises ResumeTokenInvalid.
        """
        if resume_token:
            self.places = self.read_token(resume_token)
            return []
        self.places = await self.open()
        return [self.created()]

    def follow(self, stream: Stream) -> None:
        """Has a stream follow its logs, from its places on."""
        for number, (log, place) in enumerate(zip(self.logs(), self.places, strict=True)):
            stream.follow(log, place, number)

    async def expired(self) -> ResumeTokenExpired:
        """The error for places that the logs no longer reach back to."""
        self.places = await self.open()
        return ResumeTokenExpired(
            "the log no longer reaches back to resume_token: events are missing", self.token()
        )

    @abstractmethod
    def logs(self) -> Sequence[Log]:
        """Its logs."""

    @abstractmethod
    async def open(self) -> list[str]:
        """Has its logs written; the places at their ends."""

    def token(self) -> str:
        """A resume token for its places."""
        return self._seal(self.places)

    def read_token(self, resume_token: str) -> list[str]:
        """The places that a token stands for. Raises ResumeTokenInvalid."""
        return self.tokens.read_logs(resume_token, len(self.logs()), *self._bound)

    @abstractmethod
    async def events(self, entries: list[Entry]) -> list[bytes]:
        """What each of some entries stands for; empty: it has been overtaken, and is not told."""

    @abstractmethod
    def created(self) -> bytes:
        """That the stream begins."""

    def event(self, event: Message) -> bytes:
        """An event, as a piece of a message."""
        piece: bytes = self.response(events=[event]).SerializeToString()
        return piece

    def messages(self, told: Iterable[tuple[int, list[Entry], list[bytes]]]) -> Iterator[bytes]:
        """The messages that tell events, as few as their bytes allow.

        ``told`` has, for each log that was read, its number, its entries and the event of each.
        Every message is made when it is asked for, and its token names the places of the last
        entries that it tells or that came before it: whoever resumes with it misses nothing.
        """
        events: list[bytes] = []
        size = 0
        for number, entries, pieces in told:
            for entry, piece in zip(entries, pieces, strict=True):
                if events and size + len(piece) > EVENT_BYTES:
                    yield self.message(events)
                    events, size = [], 0
                if piece:
                    events.append(piece)
                    size += len(piece)
                self.places[number] = entry.place
        if events:
            yield self.message(events)

    def message(self, events: Sequence[bytes], **fields: Any) -> bytes:
        """A message of the stream; without events a checkpoint."""
        head = self.response(resume_token=self.token(), **fields)
        return b"".join((self._about, head.SerializeToString(), *events))


class FeedSubject(Subject):
    """A user's feed."""

    def __init__(
        self,
        engine: Engine,
        tokens: Tokens,
        user: str,
        viewer: str,
        response: type[Any] = pb.SubscribeFeedResponse,
    ) -> None:
        super().__init__(engine, tokens, *resume_bound(user, viewer))
        self.response = response
        self.user = user
        self.viewer = viewer
        if response is pb.SubscribeFeedResponse:
            self._about = response(user=user).SerializeToString()
        elif response is pb.SubscribeFeedsResponse:
            self._about = response(user=user, viewer=viewer).SerializeToString()
        self._shown: set[str] = set()
        """Ids that the first page showed."""

    async def first_page(self, size: int) -> FeedPage:
        """The newest page, and the place that it was read at."""
        (begun,) = await self.open()
        page = await self.engine.feeds.page(self.user, Cursor(), convert.page_size(size))
        self.places = [page.log_tail or begun]
        answer = FeedPage()
        fill_tokens(self.tokens, self.user, self.viewer, page, answer)
        await add_items(self.engine, self.user, page.items, answer.items, just_read=True)
        self._shown = {item.activity.id for item in answer.items}
        return answer

    def logs(self) -> list[Log]:
        return [self.engine.live.of_feed(self.user)]

    async def open(self) -> list[str]:
        return [await self.engine.start_log(self.user)]

    def created(self) -> bytes:
        return self.event(pb.FeedEvent(created=pb.FeedEvent.Created()))

    def reset(self) -> bytes:
        """That the log was lost, and begins anew."""
        return self.event(pb.FeedEvent(reset=pb.FeedEvent.Reset()))

    async def events(self, entries: list[Entry]) -> list[bytes]:
        # Bodies were read with the log, not when the entry was written: what is gone by then is not
        # told.
        added = [
            entry for entry in entries if entry.body is not None and entry.what not in self._shown
        ]
        pieces = {entry.what: self._kept(entry) for entry in added}
        if unsure := [entry for entry in added if pieces[entry.what] is None]:
            pieces |= await self._asked(unsure)
        events = []
        for entry in entries:
            match entry.kind:
                case "added":
                    events.append(pieces.get(entry.what) or b"")
                case "removed":
                    self._shown.discard(entry.what)
                    removed = pb.FeedEvent.Removed(activity_id=entry.what)
                    events.append(self.event(pb.FeedEvent(removed=removed)))
                case "followed" | "unfollowed":
                    change = pb.FeedEvent.SourceChanged(
                        entity=entry.what, following=entry.kind == "followed"
                    )
                    events.append(self.event(pb.FeedEvent(source_changed=change)))
                case _:
                    events.append(b"")
        return events

    def _kept(self, entry: Entry) -> bytes | None:
        """The event of an added activity, if its route is followed and the only one."""
        if not entry.route or entry.body is None:
            return None
        name = (self.response, entry.what, entry.route)
        found = _kept.get(name)
        if found is not None and found[0] == entry.body:
            return found[1]
        event = pb.FeedEvent()
        activity = convert.filled(event.added.activity, int(entry.what), entry.body)
        if activity.to:
            return None
        event.added.via.append(activity.actor)
        if len(_kept) >= KEPT:
            _kept.clear()
        piece = self.event(event)
        _kept[name] = entry.body, piece
        return piece

    async def _asked(self, entries: list[Entry]) -> dict[str, bytes]:
        """The events of added activities that have several routes, or maybe none any more."""
        page = FeedPage()
        for followed in (True, False):
            found = [
                (int(entry.what), entry.body)
                for entry in entries
                if entry.body is not None and bool(entry.route) is followed
            ]
            await add_items(self.engine, self.user, found, page.items, just_read=followed)
        return {item.activity.id: self.event(pb.FeedEvent(added=item)) for item in page.items}


class _Activities(Subject):
    """What is told as activities, not as feed items."""

    def created(self) -> bytes:
        return self.event(pb.ActivityEvent(created=pb.ActivityEvent.Created()))

    async def events(self, entries: list[Entry]) -> list[bytes]:
        events = []
        for entry in entries:
            if entry.kind == "added" and entry.body is not None:
                event = pb.ActivityEvent()
                convert.filled(event.added, int(entry.what), entry.body)
                events.append(self.event(event))
            elif entry.kind == "removed":
                removed = pb.ActivityEvent.Removed(activity_id=entry.what)
                events.append(self.event(pb.ActivityEvent(removed=removed)))
            else:
                events.append(b"")
        return events


class OutboxSubject(_Activities):
    """An entity's outbox."""

    response = pb.SubscribeActivitiesResponse

    def __init__(self, engine: Engine, tokens: Tokens, entity: str, viewer: str) -> None:
        super().__init__(engine, tokens, "outbox log", entity, viewer)
        self._log = engine.live.of_outbox(entity)

    def logs(self) -> list[Log]:
        return [self._log]

    async def open(self) -> list[str]:
        return [await self.engine.live.open(self._log)]


class AllSubject(_Activities):
    """All that is published."""

    response = pb.SubscribeAllResponse

    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        super().__init__(engine, tokens, "all log")

    def logs(self) -> list[Log]:
        return self.engine.live.of_all()

    async def open(self) -> list[str]:
        return list(await asyncio.gather(*map(self.engine.live.open, self.logs())))
