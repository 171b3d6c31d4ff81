"""Subscribers: each follows subjects by one kind of call, moves between servers, and takes notes.

A subscriber keeps the last token of each subject. When a stream has ended, for whatever reason, the
subscriber resumes from that token on any server.
"""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from activityfeed.client import reason
from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.feed_pb2 import PageEnd
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

from tests.harness.history import NEVER
from tests.harness.traffic import CALL_SECONDS, has_unknown_effect
from tests.serving import activity_of, refusal_of
from tests.streams.history import Event, Message, Page, StreamHistory, StreamRecord, Subject
from tests.streams.stage import Front

#: Most seconds that a subscriber reads a stream, and stays away between two streams.
STAY_SECONDS = 2.0
AWAY_SECONDS = 0.4
#: The probability that a subscriber begins afresh although it has a token.
AFRESH_PROBABILITY = 0.07
#: Most seconds between two messages that a slow reader reads.
SLOW_SECONDS = 1.0
#: Options with which the connection of a slow reader keeps little unread.
SLOW_OPTIONS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1_024))
#: The probability that a gateway removes a user after a message.
REMOVE_PROBABILITY = 0.1
#: Seconds between two polls.
POLL_SECONDS = 0.1
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 300),
)


class Subscription:
    """What one subscriber knows of one subject."""

    def __init__(self, history: StreamHistory, subscriber: str, subject: Subject) -> None:
        self._history = history
        self._subscriber = subscriber
        self.name = f"{subscriber} ({subject})"
        self.subject = subject
        self.token = ""
        self.stream: StreamRecord | None = None
        """The stream that is open."""
        self.last_message_at = 0.0
        self.added_ids: set[str] = set()
        """The ids in all `added` events."""
        self.lost_at = 0.0
        """When the log was last lost."""

    def is_alive(self, since: float) -> bool:
        """Return whether a stream is open and has begun, or a message has come since a time."""
        has_begun = self.stream is not None and bool(self.stream.messages)
        return self.last_message_at > since or has_begun

    def begin(self, server: str, *, is_shared: bool = False, is_poll: bool = False) -> None:
        """Note that a stream begins with the present token."""
        self.stream = StreamRecord(
            self._subscriber,
            self.subject,
            server,
            self.token,
            time.monotonic(),
            is_shared=is_shared,
            is_poll=is_poll,
        )
        self._history.streams.append(self.stream)

    def receive(self, token: str, events: Sequence[Event], page: Page | None = None) -> None:
        """Note a message of the open stream."""
        assert self.stream is not None
        self.last_message_at = time.monotonic()
        self.stream.messages.append(Message(self.last_message_at, token, tuple(events), page))
        self.token = token
        if any(event.kind == "reset" for event in events):
            self.lost_at = self.last_message_at
        self.added_ids.update(event.target for event in events if event.kind == "added")

    def end(self, status: str) -> None:
        """Note that the stream has ended."""
        if self.stream is not None:
            self.stream.ended, self.stream.end = time.monotonic(), status
        self.stream = None

    def lose(self, fresh_token: str) -> None:
        """Note that the stream ended because the log was lost; go on from a fresh token."""
        self.end("lost")
        self.token = fresh_token
        self.lost_at = self.last_message_at = time.monotonic()

    def complain(self, mistake: str) -> None:
        """Note what no fault excuses."""
        self._history.complaints.append(f"{self._subscriber}, {self.subject}: {mistake}")


class Subscriber(ABC):
    """A client that subscribes again and again."""

    channel_options: tuple[tuple[str, int], ...] = ()

    def __init__(
        self,
        name: str,
        subjects: Iterable[Subject],
        fronts: Sequence[Front],
        history: StreamHistory,
        chance: random.Random,
    ) -> None:
        self.name = name
        self.subscriptions = [Subscription(history, name, subject) for subject in subjects]
        self.history = history
        self.chance = chance
        self.is_staying = False
        """True if the subscriber leaves no stream by itself."""
        self._fronts = fronts
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.leaves_at = NEVER
        """When the subscriber leaves its stream, if it is not staying."""

    async def run(self) -> None:
        """Subscribe until the task is cancelled."""
        try:
            while True:
                front = self.chance.choice(self._fronts)
                self.leaves_at = time.monotonic() + self.chance.random() * STAY_SECONDS
                if not self.is_staying and self.chance.random() < AFRESH_PROBABILITY:
                    for subscription in self.subscriptions:
                        subscription.token = ""
                await self._subscribe(front)
                away = self.chance.choice([0, 0, 1]) * self.chance.random() * AWAY_SECONDS
                await asyncio.sleep(0.05 if self.is_staying else 0.03 + away)
        finally:
            for channel in self._channels.values():
                await channel.close()

    async def _subscribe(self, front: Front) -> None:
        """Read one stream, and note how it ended."""
        if front.name not in self._channels:
            options = (*OPTIONS, *self.channel_options)
            self._channels[front.name] = grpc.aio.insecure_channel(front.address, options)
        stub = SubscriptionServiceStub(self._channels[front.name])
        try:
            with contextlib.suppress(TimeoutError):
                await self.read_stream(stub, front.name)
        except grpc.aio.AioRpcError as error:
            self._note_error(error)
            return
        for subscription in self.subscriptions:
            subscription.end("left")

    def _note_error(self, error: grpc.aio.AioRpcError) -> None:
        status = f"{error.code().name} {reason(error)}".strip()
        for subscription in self.subscriptions:
            if reason(error) == "RESUME_TOKEN_EXPIRED" and len(self.subscriptions) == 1:
                subscription.lose(refusal_of(error).metadata["resume_token"])
                continue
            if not has_unknown_effect(error) and status != "ABORTED STREAM_NOT_READ":
                subscription.complain(f"refused: {status}: {error.details()}")
            subscription.end(status)

    @abstractmethod
    async def read_stream(self, stub: Any, server: str) -> None:
        """Read one stream. Raise TimeoutError at the time to leave, and what the stream raises."""

    async def read_message(self, call: Any) -> Any:
        """Return the next message. Raise TimeoutError at the time to leave."""
        seconds = None if self.is_staying else self.leaves_at - time.monotonic()
        async with asyncio.timeout(seconds):
            message = await call.read()
        if message is grpc.aio.EOF:
            self.subscriptions[0].complain("the stream ended without an error")
            raise TimeoutError
        return message

    async def read_messages(self, call: Any, subscription: Subscription) -> None:
        """Note all messages of a stream of one subject."""
        try:
            while True:
                message = await self.read_message(call)
                subscription.receive(message.resume_token, events_in(message), page_in(message))
                await self.pause()
        finally:
            call.cancel()

    async def pause(self) -> None:  # noqa: B027 (most subscribers do not pause)
        """Wait before the next message."""


class FeedSubscriber(Subscriber):
    """Follows a feed with SubscribeFeed."""

    def page_size(self) -> int:
        """Return the size of the page with which a stream begins; 0 for no page."""
        return 0

    async def read_stream(self, stub: Any, server: str) -> None:
        (subscription,) = self.subscriptions
        token = subscription.token
        request = pb.SubscribeFeedRequest(user=subscription.subject.name, resume_token=token)
        if not token:
            request.initial_page_size = self.page_size()
        subscription.begin(server)
        await self.read_messages(stub.SubscribeFeed(request), subscription)


class PageSubscriber(FeedSubscriber):
    """Follows a feed with SubscribeFeed, and begins with a page."""

    def page_size(self) -> int:
        return self.chance.choice([5, 100])


class SlowSubscriber(FeedSubscriber):
    """Follows a feed with SubscribeFeed, and reads slowly or not at all for a while."""

    channel_options = SLOW_OPTIONS

    async def pause(self) -> None:
        if not self.is_staying:
            await asyncio.sleep(self.chance.random() * SLOW_SECONDS)


class OutboxSubscriber(Subscriber):
    """Follows an outbox with SubscribeActivities."""

    async def read_stream(self, stub: Any, server: str) -> None:
        (subscription,) = self.subscriptions
        request = pb.SubscribeActivitiesRequest(
            entity=subscription.subject.name, resume_token=subscription.token
        )
        subscription.begin(server)
        await self.read_messages(stub.SubscribeActivities(request), subscription)


class AllSubscriber(Subscriber):
    """Follows all activities with SubscribeAll."""

    async def read_stream(self, stub: Any, server: str) -> None:
        (subscription,) = self.subscriptions
        subscription.begin(server)
        call = stub.SubscribeAll(pb.SubscribeAllRequest(resume_token=subscription.token))
        await self.read_messages(call, subscription)


class Poller(Subscriber):
    """Follows a feed with GetFeedEvents."""

    async def read_stream(self, stub: Any, server: str) -> None:
        (subscription,) = self.subscriptions
        while self.is_staying or time.monotonic() < self.leaves_at:
            token = subscription.token
            request = pb.GetFeedEventsRequest(user=subscription.subject.name, resume_token=token)
            subscription.begin(server, is_poll=True)
            answer = await stub.GetFeedEvents(request, timeout=CALL_SECONDS)
            created = [] if token else [Event("created")]
            subscription.receive(answer.resume_token, created + _events_from(answer.events))
            subscription.end("left")
            if not answer.more:
                await asyncio.sleep(POLL_SECONDS)


class GatewaySubscriber(Subscriber):
    """Follows several feeds with SubscribeFeeds; removes users and adds them again."""

    async def read_stream(self, stub: Any, server: str) -> None:
        by_user = {subscription.subject.name: subscription for subscription in self.subscriptions}
        call = stub.SubscribeFeeds()
        leaving: set[str] = set()
        self._removed: set[str] = set()
        """Users whose removal the server has confirmed."""
        try:
            for subscription in self.subscriptions:
                await self._add(call, subscription, server)
            while True:
                message = await self.read_message(call)
                if message.subscription_id:
                    self._receive(by_user[message.subscription_id], message)
                    leaving -= self._removed
                for subscription in self.subscriptions:
                    if subscription.stream is None and subscription.subject.name not in leaving:
                        await self._add(call, subscription, server)
                may_remove = not self.is_staying and not leaving
                if may_remove and self.chance.random() < REMOVE_PROBABILITY:
                    user = self.chance.choice(self.subscriptions).subject.name
                    leaving.add(user)
                    remove = pb.RemoveFeedSubscription(subscription_id=user)
                    await self._send(call, pb.SubscribeFeedsRequest(remove=remove))
                    by_user[user].end("left")
        finally:
            call.cancel()

    async def _add(self, call: Any, subscription: Subscription, server: str) -> None:
        user, token = subscription.subject.name, subscription.token
        request = pb.AddFeedSubscription(subscription_id=user, user=user, resume_token=token)
        if not token:
            request.initial_page_size = self.chance.choice([0, 100])
        subscription.begin(server, is_shared=True)
        self._removed.discard(user)
        await self._send(call, pb.SubscribeFeedsRequest(add=request))

    async def _send(self, call: Any, request: pb.SubscribeFeedsRequest) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # the next read raises the reason
            await call.write(request)

    def _receive(self, subscription: Subscription, message: pb.SubscribeFeedsResponse) -> None:
        if subscription.subject.name in self._removed:
            subscription.complain("received a message after its removal")
        if message.HasField("removed"):
            self._removed.add(subscription.subject.name)
        if subscription.stream is None:
            return
        if message.HasField("error"):
            status = reason(message.error)
            if status != "STORE_UNAVAILABLE":
                subscription.complain(f"refused: {status}: {message.error.message}")
            subscription.end(status)
            return
        subscription.receive(message.resume_token, events_in(message), page_in(message))


def events_in(message: Any) -> list[Event]:
    """Return the events in a message of a stream; the start of a log is an event too."""
    match message.WhichOneof("message"):
        case "started":
            kinds = {pb.SUBSCRIPTION_START_NEW: "created", pb.SUBSCRIPTION_START_RESET: "reset"}
            kind = kinds.get(message.started.start)
            return [Event(kind)] if kind else []
        case "events":
            return _events_from(message.events.events)
        case _:
            return []


def _events_from(wire_events: Iterable[Any]) -> list[Event]:
    """Return the events of a feed, of an outbox or of all activities."""
    events = []
    for event in wire_events:
        match kind := event.WhichOneof("event"):
            case "added":
                activity = activity_of(event.added)
                events.append(Event(kind, activity.id, int(activity.object.id)))
            case "removed":
                in_feed = isinstance(event, pb.FeedEvent)
                removed_id = event.removed.item_id if in_feed else event.removed.activity_id
                events.append(Event(kind, removed_id))
            case "source_changed":
                change = event.source_changed
                events.append(
                    Event("followed" if change.following else "unfollowed", change.entity)
                )
            case _:
                events.append(Event(str(kind)))
    return events


def page_in(message: Any) -> Page | None:
    """Return the page in the first message of a stream; None if the message has none."""
    started = getattr(message, "started", None)
    if not isinstance(started, pb.FeedSubscriptionStarted) or not started.HasField("page"):
        return None
    activities = [item.activity.activity for item in started.page.items]
    items = [Event("shown", activity.id, int(activity.object.id)) for activity in activities]
    return Page(tuple(items), started.page.end != PageEnd.PAGE_END_FEED_END)
