"""What a stream is about: which logs it reads, and how their entries become events and tokens."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.feed_pb2 import FeedItem, FeedPage
from google.protobuf.message import Message

from feedsvc import convert
from feedsvc.core.engine import Engine
from feedsvc.core.feed import Cursor
from feedsvc.core.live import Entry, Log, Stream
from feedsvc.errors import ResumeTokenExpired
from feedsvc.services.items import add_items, fill_tokens, resume_bound
from feedsvc.tokens import Tokens

_Event = TypeVar("_Event", bound=Message)


class Subject(ABC, Generic[_Event]):
    """What a stream is about."""

    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self.engine = engine
        self.tokens = tokens
        self.places: list[str] = []
        """Where it is in each of its logs."""

    async def begin(self, resume_token: str) -> list[_Event]:
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

    @abstractmethod
    def token(self) -> str:
        """A resume token for its places."""

    @abstractmethod
    def read_token(self, resume_token: str) -> list[str]:
        """The places that a token stands for. Raises ResumeTokenInvalid."""

    @abstractmethod
    async def events(self, entries: list[Entry]) -> list[_Event]:
        """What entries stand for; without what has been overtaken."""

    @abstractmethod
    def created(self) -> _Event:
        """That the stream begins."""

    @abstractmethod
    def message(self, events: Sequence[_Event]) -> Message:
        """A message of the stream; without events a checkpoint."""


class FeedSubject(Subject[pb.FeedEvent]):
    """A user's feed."""

    def __init__(self, engine: Engine, tokens: Tokens, user: str, viewer: str) -> None:
        super().__init__(engine, tokens)
        self.user = user
        self.viewer = viewer
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

    def token(self) -> str:
        return self.tokens.log(self.places[0], *resume_bound(self.user, self.viewer))

    def read_token(self, resume_token: str) -> list[str]:
        return [self.tokens.read_log(resume_token, *resume_bound(self.user, self.viewer))]

    def created(self) -> pb.FeedEvent:
        return pb.FeedEvent(created=pb.FeedEvent.Created())

    def message(self, events: Sequence[pb.FeedEvent]) -> pb.SubscribeFeedResponse:
        return pb.SubscribeFeedResponse(user=self.user, resume_token=self.token(), events=events)

    async def events(self, entries: list[Entry]) -> list[pb.FeedEvent]:
        # Bodies were read with the log, not when the entry was written: what is gone by then is not
        # told.
        items = await self._items(entries)
        events = []
        for entry in entries:
            match entry.kind:
                case "added":
                    if entry.what in items and entry.what not in self._shown:
                        events.append(pb.FeedEvent(added=items[entry.what]))
                case "removed":
                    self._shown.discard(entry.what)
                    removed = pb.FeedEvent.Removed(activity_id=entry.what)
                    events.append(pb.FeedEvent(removed=removed))
                case "followed" | "unfollowed":
                    change = pb.FeedEvent.SourceChanged(
                        entity=entry.what, following=entry.kind == "followed"
                    )
                    events.append(pb.FeedEvent(source_changed=change))
        return events

    async def _items(self, entries: list[Entry]) -> dict[str, FeedItem]:
        page = FeedPage()
        for followed in (True, False):
            found = [
                (int(entry.what), entry.body)
                for entry in entries
                if entry.body is not None and bool(entry.route) is followed
            ]
            await add_items(self.engine, self.user, found, page.items, just_read=followed)
        return {item.activity.id: item for item in page.items}


class _Activities(Subject[pb.ActivityEvent]):
    """What is told as activities, not as feed items."""

    def created(self) -> pb.ActivityEvent:
        return pb.ActivityEvent(created=pb.ActivityEvent.Created())

    async def events(self, entries: list[Entry]) -> list[pb.ActivityEvent]:
        events = []
        for entry in entries:
            if entry.kind == "added" and entry.body is not None:
                event = pb.ActivityEvent()
                convert.filled(event.added, int(entry.what), entry.body)
                events.append(event)
            elif entry.kind == "removed":
                removed = pb.ActivityEvent.Removed(activity_id=entry.what)
                events.append(pb.ActivityEvent(removed=removed))
        return events


class OutboxSubject(_Activities):
    """An entity's outbox."""

    def __init__(self, engine: Engine, tokens: Tokens, entity: str, viewer: str) -> None:
        super().__init__(engine, tokens)
        self._bound = ("outbox log", entity, viewer)
        self._log = engine.live.of_outbox(entity)

    def logs(self) -> list[Log]:
        return [self._log]

    async def open(self) -> list[str]:
        return [await self.engine.live.open(self._log)]

    def token(self) -> str:
        return self.tokens.log(self.places[0], *self._bound)

    def read_token(self, resume_token: str) -> list[str]:
        return [self.tokens.read_log(resume_token, *self._bound)]

    def message(self, events: Sequence[pb.ActivityEvent]) -> pb.SubscribeActivitiesResponse:
        return pb.SubscribeActivitiesResponse(resume_token=self.token(), events=events)


class AllSubject(_Activities):
    """All that is published."""

    def logs(self) -> list[Log]:
        return self.engine.live.of_all()

    async def open(self) -> list[str]:
        return list(await asyncio.gather(*map(self.engine.live.open, self.logs())))

    def token(self) -> str:
        return self.tokens.logs(self.places, "all log")

    def read_token(self, resume_token: str) -> list[str]:
        return self.tokens.read_logs(resume_token, len(self.logs()), "all log")

    def message(self, events: Sequence[pb.ActivityEvent]) -> pb.SubscribeAllResponse:
        return pb.SubscribeAllResponse(resume_token=self.token(), events=events)
