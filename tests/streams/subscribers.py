"""Subscribers: each follows subjects by one kind of call, hops between servers, and writes down.

A subscriber keeps the last token of each subject. After the end of a stream, whatever it was, it
comes again with that, on any server.
"""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
from activityfeed.client import reason
from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.feed_pb2 import PageEnd
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

from tests.faults.history import NEVER
from tests.faults.lanes import unknown
from tests.faults.proxy import Proxy
from tests.faults.stage import Server
from tests.serving import refusal_of
from tests.streams.history import Event, Message, Page, StreamHistory, Subject, Told

#: Seconds that a subscriber stays, and stays away, at the most.
STAY_SECONDS = 2.0
AWAY_SECONDS = 0.4
#: The probability that a subscriber begins afresh although it has a token.
AFRESH = 0.07
#: Of a slow reader: seconds between two messages, at the most; what its connection keeps unread.
SLOW_SECONDS = 1.0
SLOW_OPTIONS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1_024))
#: Seconds between polls, and that one may take.
POLL_SECONDS = 0.1
CALL_SECONDS = 2.0
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 300),
)


class Front(Proxy):
    """Stands before a server: where it serves changes with each start, and replies are cut here."""

    def __init__(self, listens: Path, server: Server, chance: random.Random) -> None:
        super().__init__(listens, listens, chance)
        self.server = server
        self.target = f"unix:{listens}"

    @property
    def name(self) -> str:
        return self.server.process.name

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)


class Follower:
    """What one subscriber knows of one subject."""

    def __init__(self, history: StreamHistory, subscriber: str, subject: Subject) -> None:
        self._history = history
        self._subscriber = subscriber
        self.name = f"{subscriber} ({subject})"
        self.subject = subject
        self.token = ""
        self.told: Told | None = None
        """The stream that is open."""
        self.heard = 0.0
        """When it was last told something."""
        self.seen: set[str] = set()
        """What was added since the log was last lost."""
        self.lost_at = 0.0

    def there(self, since: float) -> bool:
        """Whether a stream is open that has begun, or it was told something since."""
        return self.heard > since or (self.told is not None and bool(self.told.messages))

    def opens(self, server: str, *, many: bool = False) -> None:
        token, began = self.token, time.monotonic()
        self.told = Told(self._subscriber, self.subject, server, token, began, many=many)
        self._history.told.append(self.told)

    def hears(self, token: str, events: Sequence[Event], page: Page | None = None) -> None:
        assert self.told is not None
        self.heard = time.monotonic()
        self.told.messages.append(Message(self.heard, token, tuple(events), page))
        self.token = token
        if any(event.kind == "reset" for event in events):
            self.lost_at = self.heard
        self.seen.update(event.what for event in events if event.kind == "added")

    def ends(self, how: str) -> None:
        if self.told is not None:
            self.told.ended, self.told.how = time.monotonic(), how
        self.told = None

    def loses(self, token: str) -> None:
        """The stream ended because the log no longer reached back; it goes on from a token."""
        self.ends("lost")
        self.token = token
        self.lost_at = self.heard = time.monotonic()

    def complain(self, what: str) -> None:
        self._history.complaints.append(f"{self._subscriber}, {self.subject}: {what}")


class Subscriber(ABC):
    """Somebody who subscribes again and again."""

    options: tuple[tuple[str, int], ...] = ()

    def __init__(
        self,
        name: str,
        subjects: Iterable[Subject],
        fronts: Sequence[Front],
        history: StreamHistory,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.followers = [Follower(history, name, subject) for subject in subjects]
        self.history = history
        self.chance = chance
        self.staying = False
        """Whether it leaves no stream that does not end."""
        self._fronts = fronts
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.leaves = NEVER

    async def run(self) -> None:
        """Subscribes until it is cancelled."""
        try:
            while True:
                front = self.chance.choice(self._fronts)
                self.leaves = time.monotonic() + self.chance.random() * STAY_SECONDS
                if not self.staying and self.chance.random() < AFRESH:
                    for one in self.followers:
                        one.token = ""
                await self._subscribed(front)
                away = self.chance.choice([0, 0, 1]) * self.chance.random() * AWAY_SECONDS
                await asyncio.sleep(0.05 if self.staying else 0.03 + away)
        finally:
            for channel in self._channels.values():
                await channel.close()

    async def _subscribed(self, front: Front) -> None:
        """One stream, and how it ended."""
        if front.name not in self._channels:
            options = (*OPTIONS, *self.options)
            self._channels[front.name] = grpc.aio.insecure_channel(front.target, options)
        stub = SubscriptionServiceStub(self._channels[front.name])
        try:
            await self.follow(stub, front.name)
            how = "left"
        except TimeoutError:
            how = "left"
        except grpc.aio.AioRpcError as error:
            self._failed(error)
            return
        for one in self.followers:
            one.ends(how)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        how = f"{error.code().name} {reason(error)}".strip()
        for one in self.followers:
            if reason(error) == "RESUME_TOKEN_EXPIRED" and len(self.followers) == 1:
                one.loses(refusal_of(error).metadata["resume_token"])
                continue
            if not unknown(error) and not self.excused(how):
                one.complain(f"refused: {how}: {error.details()}")
            one.ends(how)

    def excused(self, how: str) -> bool:
        """Whether a stream may be ended like this."""
        return how == "ABORTED STREAM_NOT_READ"

    @abstractmethod
    async def follow(self, stub: Any, server: str) -> None:
        """One stream. Raises TimeoutError when it is time to leave, and what the stream raises."""

    async def read(self, call: Any) -> Any:
        """The next message."""
        async with asyncio.timeout_at(None if self.staying else _loop_time(self.leaves)):
            message = await call.read()
        if message is grpc.aio.EOF:
            self.followers[0].complain("the stream ended without an error")
            raise TimeoutError
        return message


def _loop_time(moment: float) -> float:
    return asyncio.get_running_loop().time() + moment - time.monotonic()


class FeedSubscriber(Subscriber):
    """SubscribeFeed."""

    page_size = 0

    async def follow(self, stub: Any, server: str) -> None:
        (one,) = self.followers
        request = pb.SubscribeFeedRequest(user=one.subject.name, resume_token=one.token)
        if not one.token:
            request.initial_page_size = self.page_size
        one.opens(server)
        call = stub.SubscribeFeed(request)
        try:
            while True:
                message = await self.read(call)
                one.hears(message.resume_token, heard(message), _page(message))
                await self.rest()
        finally:
            call.cancel()

    async def rest(self) -> None:
        """Before it reads on."""


class PageSubscriber(FeedSubscriber):
    """SubscribeFeed that begins with a page."""

    @property
    def page_size(self) -> int:  # type: ignore[override]
        return self.chance.choice([5, 100])


class SlowSubscriber(FeedSubscriber):
    """SubscribeFeed, read slowly or not at all for a while."""

    options = SLOW_OPTIONS

    async def rest(self) -> None:
        if not self.staying:
            await asyncio.sleep(self.chance.random() * SLOW_SECONDS)


class OutboxSubscriber(Subscriber):
    """SubscribeActivities."""

    async def follow(self, stub: Any, server: str) -> None:
        (one,) = self.followers
        request = pb.SubscribeActivitiesRequest(entity=one.subject.name, resume_token=one.token)
        one.opens(server)
        await self.listen(stub.SubscribeActivities(request), one)

    async def listen(self, call: Any, one: Follower) -> None:
        try:
            while True:
                message = await self.read(call)
                one.hears(message.resume_token, heard(message))
        finally:
            call.cancel()


class AllSubscriber(OutboxSubscriber):
    """SubscribeAll."""

    async def follow(self, stub: Any, server: str) -> None:
        (one,) = self.followers
        one.opens(server)
        call = stub.SubscribeAll(pb.SubscribeAllRequest(resume_token=one.token))
        await self.listen(call, one)


class Poller(Subscriber):
    """GetFeedEvents."""

    async def follow(self, stub: Any, server: str) -> None:
        (one,) = self.followers
        while self.staying or time.monotonic() < self.leaves:
            request = pb.GetFeedEventsRequest(user=one.subject.name, resume_token=one.token)
            one.opens(server)
            if one.told is not None:
                one.told.polled = True
            answer = await stub.GetFeedEvents(request, timeout=CALL_SECONDS)
            begun = [] if request.resume_token else [Event("created")]
            one.hears(answer.resume_token, begun + feed_events(answer.events))
            one.ends("left")
            if not answer.more:
                await asyncio.sleep(POLL_SECONDS)


class GatewaySubscriber(Subscriber):
    """SubscribeFeeds, with users who come and go."""

    async def follow(self, stub: Any, server: str) -> None:
        by_user = {one.subject.name: one for one in self.followers}
        call = stub.SubscribeFeeds()
        leaving: set[str] = set()
        self._gone: set[str] = set()
        try:
            for one in self.followers:
                await self._add(call, one, server)
            while True:
                message = await self.read(call)
                if message.subscription_id:
                    self._heard(by_user[message.subscription_id], message)
                    leaving -= self._gone
                for one in self.followers:
                    if one.told is None and one.subject.name not in leaving:
                        await self._add(call, one, server)
                if not self.staying and not leaving and self.chance.random() < 0.1:
                    gone = self.chance.choice(self.followers).subject.name
                    leaving.add(gone)
                    remove = pb.RemoveFeedSubscription(subscription_id=gone)
                    await self._send(call, pb.SubscribeFeedsRequest(remove=remove))
                    by_user[gone].ends("left")
        finally:
            call.cancel()

    async def _add(self, call: Any, one: Follower, server: str) -> None:
        name = one.subject.name
        request = pb.AddFeedSubscription(subscription_id=name, user=name, resume_token=one.token)
        if not one.token:
            request.initial_page_size = self.chance.choice([0, 100])
        one.opens(server, many=True)
        self._gone.discard(one.subject.name)
        await self._send(call, pb.SubscribeFeedsRequest(add=request))

    async def _send(self, call: Any, request: pb.SubscribeFeedsRequest) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # reading says how it ended
            await call.write(request)

    def _heard(self, one: Follower, message: pb.SubscribeFeedsResponse) -> None:
        if one.subject.name in self._gone:
            one.complain("told something after it was removed")
        if message.HasField("removed"):
            self._gone.add(one.subject.name)
        if one.told is None:
            return
        if message.HasField("error"):
            how = reason(message.error)
            if how != "STORE_UNAVAILABLE":
                one.complain(f"refused: {how}: {message.error.message}")
            one.ends(how)
            return
        one.hears(message.resume_token, heard(message), _page(message))


def heard(message: Any) -> list[Event]:
    """What a message of a stream tells."""
    match message.WhichOneof("message"):
        case "started":
            kinds = {pb.SUBSCRIPTION_START_NEW: "created", pb.SUBSCRIPTION_START_RESET: "reset"}
            kind = kinds.get(message.started.start)
            return [Event(kind)] if kind else []
        case "events" if isinstance(message.events, pb.FeedEvents):
            return feed_events(message.events.events)
        case "events":
            return activity_events(message.events.events)
        case _:
            return []


def feed_events(events: Iterable[pb.FeedEvent]) -> list[Event]:
    """What was told of a feed."""
    found = []
    for event in events:
        match kind := event.WhichOneof("event"):
            case "added":
                activity = event.added.activity.activity
                found.append(Event(kind, activity.id, int(activity.object.id)))
            case "removed":
                found.append(Event(kind, event.removed.item_id))
            case "source_changed":
                change = event.source_changed
                what = "followed" if change.following else "unfollowed"
                found.append(Event(what, change.entity))
            case _:
                found.append(Event(str(kind)))
    return found


def activity_events(events: Iterable[pb.ActivityEvent]) -> list[Event]:
    """What was told of an outbox, or of all."""
    found = []
    for event in events:
        match kind := event.WhichOneof("event"):
            case "added":
                activity = event.added.activity
                found.append(Event(kind, activity.id, int(activity.object.id)))
            case "removed":
                found.append(Event(kind, event.removed.activity_id))
            case _:
                found.append(Event(str(kind)))
    return found


def _page(message: Any) -> Page | None:
    """The page that a message has."""
    started = message.started
    if not isinstance(started, pb.FeedSubscriptionStarted) or not started.HasField("page"):
        return None
    page = started.page
    shown = [item.activity.activity for item in page.items]
    items = [Event("shown", one.id, int(one.object.id)) for one in shown]
    return Page(tuple(items), page.end != PageEnd.PAGE_END_FEED_END)
