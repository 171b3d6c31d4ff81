"""Traffic: lanes that call the service, one call after another, and note what they learn.

One lane makes all calls of an entity, so that the order of the entity's writes is known. A failed
call is sent again with the same request id, until it is answered or the lane gives up. Then nobody
knows whether the call took effect, and the lane makes no more calls that depend on that.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from activityfeed import FeedClient
from activityfeed.client import reason
from activityfeed.v1.activity_pb2 import Activity, Audience, Ref
from activityfeed.v1.activity_service_pb2 import (
    DeleteActivityRequest,
    DeliveryState,
    PublishActivityRequest,
    PublishActivityResponse,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest, UnfollowRequest

from tests.harness.history import NEVER, EdgeChange, History, Item, Publish, Walk

#: Seconds that one call may take.
CALL_SECONDS = 2.0
#: Seconds until a failed call is sent again.
RETRY_SECONDS = 0.05
#: The probability that a lane gives up after a failure instead of trying again.
GIVE_UP_PROBABILITY = 0.3
#: The probability that a lane repeats an answered publish, as if the answer had been lost.
REPEAT_PROBABILITY = 0.1
#: Seconds within which a service without faults must answer.
PATIENCE_SECONDS = 30.0
#: Seconds during which all lanes follow more than they unfollow, and then unfollow more.
MOOD_SECONDS = 1.0

#: gRPC's codes after which nobody knows whether a call took effect.
UNKNOWN_CODES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
#: Codes of a broken connection, unless the service gives a reason for them.
BROKEN_CODES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
#: States that mean that an activity is in every feed.
DELIVERED_STATES = {DeliveryState.DELIVERY_STATE_DELIVERED, DeliveryState.DELIVERY_STATE_PULLED}

T = TypeVar("T")
HistoryT = TypeVar("HistoryT", bound=History)


@dataclass(frozen=True)
class Population:
    """The entities of a history."""

    users: tuple[str, ...]
    stars: tuple[str, ...]
    """Those users that many others follow."""
    topics: tuple[str, ...]
    """Entities that make no calls; users publish activities to them."""

    @classmethod
    def named(cls, name: str, users: int, stars: int, topics: int) -> "Population":
        """Return a population whose names begin with the name of a history."""
        all_users = tuple(f"{name}-u{number}" for number in range(users))
        return cls(all_users, all_users[:stars], tuple(f"{name}-t{n}" for n in range(topics)))

    @property
    def entities(self) -> tuple[str, ...]:
        """All users and topics."""
        return self.users + self.topics


class Caller:
    """Calls any server until a server answers, and counts the calls."""

    def __init__(
        self,
        clients: Callable[[], Sequence[FeedClient]],
        history: History,
        chance: random.Random,
    ) -> None:
        self._clients = clients
        self._history = history
        self.chance = chance
        self.is_stopping = False
        """True if lanes begin no new calls; they still repeat the present call until an answer."""
        self.deadline = NEVER
        """Time from which a call that is not answered raises TimeoutError."""

    async def call(self, call: Callable[[FeedClient], Awaitable[T]]) -> T:
        """Return the answer, however long it takes. Raise the error if the call is refused."""
        answer = await self.try_call(call, may_give_up=False)
        assert answer is not None
        return answer

    async def try_call(
        self, call: Callable[[FeedClient], Awaitable[T]], *, may_give_up: bool = True
    ) -> T | None:
        """Return the answer, or None if the caller gave up. Raise the error of a refused call."""
        while True:
            if clients := self._clients():
                self._history.calls += 1
                try:
                    return await call(self.chance.choice(clients))
                except grpc.aio.AioRpcError as error:
                    if not has_unknown_effect(error):
                        raise
                    self._history.failed_calls += 1
                    if may_give_up and self.chance.random() < GIVE_UP_PROBABILITY:
                        return None
            if time.monotonic() > self.deadline:
                raise TimeoutError("without any faults the service does not answer")
            await asyncio.sleep(RETRY_SECONDS)

    def complain(self, call_name: str, error: grpc.aio.AioRpcError) -> None:
        """Note a refusal that no fault excuses."""
        text = f"{call_name} is refused: {error.code().name} {reason(error)} {error.details()}"
        self._history.complaints.append(text)


def has_unknown_effect(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a failed call may or may not have taken effect."""
    code = error.code()
    return code in UNKNOWN_CODES or (code in BROKEN_CODES and not reason(error))


def name_of_state(state: DeliveryState) -> str:
    """Return the short name of a delivery state."""
    return DeliveryState.Name(state).removeprefix("DELIVERY_STATE_")


class Lane(Generic[HistoryT]):
    """All calls of some users, one after another."""

    #: How often a lane chooses each action: the name of a method and its weight.
    actions: tuple[tuple[str, int], ...] = ()

    def __init__(
        self,
        population: Population,
        users: Sequence[str],
        caller: Caller,
        history: HistoryT,
        chance: random.Random,
    ) -> None:
        self._population = population
        self._users = users
        self._caller = caller
        self._history = history
        self._chance = chance
        self._following: dict[str, set[str]] = {user: set() for user in users}
        self._unknown_edges: set[tuple[str, str]] = set()
        """Edges of which nobody knows whether they exist."""
        self._own_publishes: list[Publish] = []
        """Acknowledged publishes that this lane has not deleted."""
        self._requests: dict[int, PublishActivityRequest] = {}
        """The request of each publish, by number."""

    async def begin(self) -> None:
        """Make the first edges in one batch, before anything is broken."""
        population = self._population
        edges = [
            (user, followee)
            for user in self._users
            for followee in self._sample(population.entities, 6) | self._sample(population.stars, 2)
            if user != followee
        ]
        requests = [FollowRequest(follower=user, followee=followee) for user, followee in edges]
        began = time.monotonic()
        answer = await self._caller.call(
            lambda client: client.follows.BatchFollow(
                BatchFollowRequest(requests=requests), timeout=PATIENCE_SECONDS
            )
        )
        assert all(result.HasField("response") for result in answer.results), answer
        ended = time.monotonic()
        for user, followee in edges:
            change = EdgeChange(
                user, followee, is_follow=True, began=began, ended=ended, made_edge=True
            )
            self._history.changes.append(change)
            self._following[user].add(followee)

    async def run(self) -> None:
        """Make calls until the caller stops."""
        names, weights = zip(*self.actions, strict=True)
        while not self._caller.is_stopping:
            (name,) = self._chance.choices(names, weights)
            stars = [user for user in self._users if user in self._population.stars]
            users = stars if stars and self._chance.random() < 0.5 else self._users
            await getattr(self, name)(self._chance.choice(users))

    def _sample(self, names: Sequence[str], limit: int) -> set[str]:
        return set(self._chance.sample(names, self._chance.randrange(limit + 1)))

    async def publish(self, actor: str) -> None:
        """Publish an activity, at times with recipients, a time of its own, or twice."""
        chance, population = self._chance, self._population
        to: tuple[str, ...] = ()
        if chance.random() < 0.3:
            entities = self._sample(population.entities, 2) | self._sample(population.stars, 1)
            to = tuple(entities | self._sample(population.topics, 2))
        to_followers = not to or chance.random() < 0.7
        audience = Audience.AUDIENCE_FOLLOWERS if to_followers else Audience.AUDIENCE_TO_ONLY
        number = len(self._history.publishes) + 1
        activity = Activity(
            actor=actor, verb="post", object=Ref(id=str(number)), to=to, audience=audience
        )
        is_untimed = chance.random() < 0.8
        if not is_untimed:
            past = time.time() - chance.choice([0.01, 1, 60, 3600]) * chance.random()
            activity.publish_time.FromMilliseconds(int(past * 1000))
        request = PublishActivityRequest(
            activity=activity,
            request_id=f"publish {number}",
            wait_for_delivery=chance.random() < 0.15,
        )
        publish = Publish(number, actor, to, to_followers, is_untimed, began=time.monotonic())
        self._history.publishes[number] = publish
        self._requests[number] = request
        await self._send(publish, request)
        if publish.is_acknowledged:
            self._own_publishes.append(publish)
            if chance.random() < REPEAT_PROBABILITY:
                await self._send(publish, request)

    async def _send(self, publish: Publish, request: PublishActivityRequest) -> None:
        attempts = 0

        async def call(client: FeedClient) -> PublishActivityResponse:
            nonlocal attempts
            attempts += 1
            return await client.activities.PublishActivity(request, timeout=CALL_SECONDS)

        try:
            answer = await self._caller.try_call(call)
        except grpc.aio.AioRpcError as error:
            was_kept = publish.id and not self._history.is_lossy
            if reason(error) != "FANOUT_OVERLOADED" or was_kept:
                self._caller.complain(f"publish #{publish.number}", error)
            elif attempts == 1 and not publish.id:  # else an earlier attempt may be under way
                publish.is_refused, publish.ended = True, time.monotonic()
            return
        if answer is not None:
            self._note_answer(publish, answer)

    def _note_answer(self, publish: Publish, answer: PublishActivityResponse) -> None:
        now = time.monotonic()
        complaints, number = self._history.complaints, publish.number
        answered_id = int(answer.activity.id)
        if publish.id and publish.id != answered_id and not self._history.is_lossy:
            complaints.append(
                f"publish #{number} is answered with {publish.id}, then with {answered_id}"
            )
        if publish.id and not answer.already_published and not self._history.is_lossy:
            complaints.append(f"publish #{number} is repeated, and answered as if it were new")
        if answer.delivery.state == DeliveryState.DELIVERY_STATE_FAILED:
            complaints.append(f"the delivery of #{number} has failed")
        publish.id, publish.ended = publish.id or answered_id, min(publish.ended, now)
        if answer.delivery.state in DELIVERED_STATES and publish.delivered == NEVER:
            publish.delivered = now
            publish.delivery_state = name_of_state(answer.delivery.state)

    async def change_edge(self, user: str) -> None:
        """Follow or unfollow; stars gain many followers and lose them, again and again."""
        mood = int(time.monotonic() / MOOD_SECONDS) % 2
        is_follow = self._chance.random() < (0.85 if mood else 0.15)
        population = self._population
        names = population.stars if self._chance.random() < 0.8 else population.entities
        if not is_follow:
            names = tuple(sorted(self._following[user].intersection(names)))
        followees = [
            name for name in names if name != user and (user, name) not in self._unknown_edges
        ]
        if not followees:
            return
        followee = self._chance.choice(followees)
        change = EdgeChange(user, followee, is_follow=is_follow, began=time.monotonic())
        self._history.changes.append(change)
        request_id = f"change {len(self._history.changes)}"
        try:
            is_known = await self._send_change(change, request_id)
        except grpc.aio.AioRpcError as error:
            self._caller.complain(f"{user} and {followee}", error)
            is_known = False
        if not is_known:
            self._unknown_edges.add((user, followee))
            return
        change.ended = time.monotonic()
        if is_follow:
            self._following[user].add(followee)
        else:
            self._following[user].discard(followee)

    async def _send_change(self, change: EdgeChange, request_id: str) -> bool:
        """Return whether the service answered."""
        if change.is_follow:
            follow = FollowRequest(
                follower=change.follower, followee=change.followee, request_id=request_id
            )
            followed = await self._caller.try_call(
                lambda client: client.follows.Follow(follow, timeout=CALL_SECONDS)
            )
            change.made_edge = followed is not None and not followed.already_following
            return followed is not None
        unfollow = UnfollowRequest(
            follower=change.follower, followee=change.followee, request_id=request_id
        )
        unfollowed = await self._caller.try_call(
            lambda client: client.follows.Unfollow(unfollow, timeout=CALL_SECONDS)
        )
        return unfollowed is not None

    async def delete(self, _: str) -> None:
        """Delete an activity of this lane."""
        if not self._own_publishes:
            return
        index = self._chance.randrange(len(self._own_publishes))
        publish = self._own_publishes.pop(index)
        publish.delete_began = time.monotonic()
        request = DeleteActivityRequest(
            id=str(publish.id), actor=publish.actor, request_id=f"delete {publish.number}"
        )
        try:
            answer = await self._caller.try_call(
                lambda client: client.activities.DeleteActivity(request, timeout=CALL_SECONDS)
            )
        except grpc.aio.AioRpcError as error:
            self._complain_unless_lost(f"the deletion of #{publish.number}", error)
            return
        if answer is not None:
            publish.delete_ended = time.monotonic()

    def _complain_unless_lost(self, call_name: str, error: grpc.aio.AioRpcError) -> None:
        """Complain of a refusal, unless the store may have lost the activity."""
        if reason(error) != "ACTIVITY_NOT_FOUND" or not self._history.is_lossy:
            self._caller.complain(call_name, error)

    async def walk(self, user: str) -> None:
        """Walk through a feed."""
        walk = await walk_feed(self._caller, user, self._chance.choice([10, 50, 100]))
        self._history.walks.append(walk)


async def walk_feed(caller: Caller, user: str, page_size: int, *, may_give_up: bool = True) -> Walk:
    """Walk through a feed from its top to its end; any server may answer each page."""
    walk = Walk(user, time.monotonic(), NEVER)
    request = GetFeedRequest(user=user, page_size=page_size)
    while True:
        try:
            answer = await caller.try_call(
                lambda client: client.feeds.GetFeed(request, timeout=CALL_SECONDS),
                may_give_up=may_give_up,
            )
        except grpc.aio.AioRpcError as error:
            caller.complain(f"the feed of {user}", error)
            answer = None
        if answer is None:
            walk.is_complete = False
            break
        for item in answer.page.items:
            activity = item.activity.activity
            walk.items.append(Item(int(activity.id), int(activity.object.id), tuple(item.via)))
        request.page_token = answer.page.next_page_token
        if not request.page_token:
            break
    walk.ended = time.monotonic()
    return walk


async def gather_limited(calls: Iterable[Awaitable[T]], limit: int = 16) -> list[T]:
    """Return the results of many calls, of which at most `limit` run at a time."""
    slots = asyncio.Semaphore(limit)

    async def run(call: Awaitable[T]) -> T:
        async with slots:
            return await call

    return await asyncio.gather(*(run(call) for call in calls))
