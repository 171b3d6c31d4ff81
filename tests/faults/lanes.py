"""Traffic: lanes that call the service one thing after another, and write down what they know.

All that an entity does, one lane does for it, so that the order of its writes is known. A call that
fails is sent again with the same request id, until it is answered or the lane gives up; then nobody
knows whether it took effect, and the lane leaves alone what depends on that.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from activityfeed import FeedClient
from activityfeed.client import reason
from activityfeed.v1.activity_pb2 import Activity, Audience, Ref
from activityfeed.v1.activity_service_pb2 import (
    DeleteActivityRequest,
    DeliveryState,
    GetDeliveryRequest,
    ListActivitiesRequest,
    PublishActivityRequest,
    PublishActivityResponse,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import (
    BatchFollowRequest,
    FollowRequest,
    ListFollowingRequest,
    UnfollowRequest,
)

from tests.faults.history import NEVER, Change, History, Item, Publish, State, Walk

#: Seconds that one call may take.
CALL_SECONDS = 2.0
#: Seconds until a call that failed is sent again.
AGAIN_SECONDS = 0.05
#: The probability that a lane gives up after a failure, instead of trying again.
GIVES_UP = 0.3
#: The probability that it sends an answered publish again, as if the answer had been lost.
SENDS_AGAIN = 0.1
#: Seconds after which a service without faults must have answered.
PATIENCE_SECONDS = 30.0
#: All lanes follow more than they unfollow for so many seconds, then the other way round.
MOOD_SECONDS = 1.0

#: gRPC's answers after which it is not known what happened.
UNKNOWN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
#: These come from a connection that broke, unless the service says that they are its own.
BROKEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
SETTLED = {DeliveryState.DELIVERY_STATE_DELIVERED, DeliveryState.DELIVERY_STATE_PULLED}

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Who there is."""

    users: tuple[str, ...]
    stars: tuple[str, ...]
    """Those of the users that many follow."""
    topics: tuple[str, ...]
    """They do nothing; activities are published to them."""

    @classmethod
    def named(cls, name: str, users: int, stars: int, topics: int) -> "World":
        everybody = tuple(f"{name}-u{number}" for number in range(users))
        return cls(everybody, everybody[:stars], tuple(f"{name}-t{n}" for n in range(topics)))

    @property
    def entities(self) -> tuple[str, ...]:
        return self.users + self.topics


class Calls:
    """Calls servers until one answers, and counts."""

    def __init__(
        self, serving: Callable[[], Sequence[FeedClient]], history: History, chance: random.Random
    ) -> None:
        self._serving = serving
        self._history = history
        self.chance = chance
        self.stopping = False
        """No new calls; those under way are sent again until they are answered."""
        self.deadline = NEVER

    async def answered(self, call: Callable[[FeedClient], Awaitable[T]]) -> T:
        """The answer, however long it takes. Raises what is an answer too: a refusal."""
        found = await self.tried(call, gives_up=False)
        assert found is not None
        return found

    async def tried(
        self, call: Callable[[FeedClient], Awaitable[T]], *, gives_up: bool = True
    ) -> T | None:
        """The answer, or None: the caller gave up."""
        while True:
            serving = self._serving()
            if serving:
                self._history.calls += 1
                try:
                    return await call(self.chance.choice(serving))
                except grpc.aio.AioRpcError as error:
                    if not unknown(error):
                        raise
                    self._history.unknown += 1
                    if gives_up and self.chance.random() < GIVES_UP:
                        return None
            if time.monotonic() > self.deadline:
                raise TimeoutError("without any faults the service does not answer")
            await asyncio.sleep(AGAIN_SECONDS)

    def complain(self, what: str, error: grpc.aio.AioRpcError) -> None:
        text = f"{what} is refused: {error.code().name} {reason(error)} {error.details()}"
        self._history.complaints.append(text)


def unknown(error: grpc.aio.AioRpcError) -> bool:
    """Whether a failed call may or may not have taken effect."""
    code = error.code()
    return code in UNKNOWN or (code in BROKEN and not reason(error))


def named(state: DeliveryState) -> str:
    return DeliveryState.Name(state).removeprefix("DELIVERY_STATE_")


class Lane:
    """One after another, all that some users do."""

    def __init__(
        self,
        world: World,
        users: Sequence[str],
        calls: Calls,
        history: History,
        chance: random.Random,
    ) -> None:
        self._world = world
        self._users = users
        self._calls = calls
        self._history = history
        self._chance = chance
        self._following: dict[str, set[str]] = {user: set() for user in users}
        self._unknown: set[tuple[str, str]] = set()
        """Edges of which nobody knows whether they are there."""
        self._own: list[Publish] = []
        self._sent: dict[int, PublishActivityRequest] = {}
        self._doings: dict[Callable[[str], Awaitable[None]], int] = {
            self._publish: 35,
            self._change: 25,
            self._walk: 30,
            self._delete: 6,
            self._ask: 6,
        }

    async def begin(self) -> None:
        """Follows the first entities, in one batch, while nothing is broken."""
        wanted = [
            (user, followee)
            for user in self._users
            for followee in self._some(self._world.entities, 6) | self._some(self._world.stars, 2)
            if user != followee
        ]
        requests = [FollowRequest(follower=user, followee=name) for user, name in wanted]
        began = time.monotonic()
        answer = await self._calls.answered(
            lambda client: client.follows.BatchFollow(
                BatchFollowRequest(requests=requests), timeout=PATIENCE_SECONDS
            )
        )
        assert all(result.HasField("response") for result in answer.results), answer
        for user, name in wanted:
            change = Change(user, name, on=True, began=began, ended=time.monotonic(), new=True)
            self._history.changes.append(change)
            self._following[user].add(name)

    async def run(self) -> None:
        """Calls until it is told to stop."""
        while not self._calls.stopping:
            (doing,) = self._chance.choices(list(self._doings), list(self._doings.values()))
            stars = [user for user in self._users if user in self._world.stars]
            often = stars if stars and self._chance.random() < 0.5 else self._users
            await doing(self._chance.choice(often))

    async def repeat(self, count: int) -> dict[int, int]:
        """Sends some answered publishes once more; what ids they are answered with."""
        some = [n for n, one in self._history.publishes.items() if one.id and n in self._sent]
        answers = {}
        for number in self._chance.sample(some, min(count, len(some))):
            request = self._sent[number]
            answer = await self._calls.answered(
                lambda client, request=request: client.activities.PublishActivity(
                    request, timeout=CALL_SECONDS
                )
            )
            answers[number] = int(answer.activity.id)
        return answers

    def _some(self, names: Sequence[str], most: int) -> set[str]:
        return set(self._chance.sample(names, self._chance.randrange(most + 1)))

    async def _publish(self, actor: str) -> None:
        chance = self._chance
        to: tuple[str, ...] = ()
        if chance.random() < 0.3:
            few = self._some(self._world.entities, 2) | self._some(self._world.stars, 1)
            to = tuple(few | self._some(self._world.topics, 2))
        followers = not to or chance.random() < 0.7
        audience = Audience.AUDIENCE_FOLLOWERS if followers else Audience.AUDIENCE_TO_ONLY
        number = len(self._history.publishes) + 1
        activity = Activity(
            actor=actor, verb="post", object=Ref(id=str(number)), to=to, audience=audience
        )
        fresh = chance.random() < 0.8
        if not fresh:
            past = time.time() - chance.choice([0.01, 1, 60, 3600]) * chance.random()
            activity.publish_time.FromMilliseconds(int(past * 1000))
        request = PublishActivityRequest(
            activity=activity,
            request_id=f"publish {number}",
            wait_for_delivery=chance.random() < 0.15,
        )
        one = Publish(number, actor, to, followers, fresh, began=time.monotonic())
        self._history.publishes[number] = one
        self._sent[number] = request
        await self._send(one, request)
        if one.ended < NEVER and not one.refused:
            self._own.append(one)
            if chance.random() < SENDS_AGAIN:
                await self._send(one, request)

    async def _send(self, one: Publish, request: PublishActivityRequest) -> None:
        sent = 0

        async def call(client: FeedClient) -> PublishActivityResponse:
            nonlocal sent
            sent += 1
            return await client.activities.PublishActivity(request, timeout=CALL_SECONDS)

        try:
            answer = await self._calls.tried(call)
        except grpc.aio.AioRpcError as error:
            again = one.id and not self._history.lossy
            if reason(error) != "FANOUT_OVERLOADED" or again:
                self._calls.complain(f"publish #{one.number}", error)
            elif sent == 1 and not one.id:  # else an earlier attempt may be under way
                one.refused, one.ended = True, time.monotonic()
            return
        if answer is not None:
            self._note(one, answer)

    def _note(self, one: Publish, answer: PublishActivityResponse) -> None:
        now = time.monotonic()
        found = int(answer.activity.id)
        if one.id and one.id != found and not self._history.lossy:
            text = f"publish #{one.number} is answered with {one.id}, then with {found}"
            self._history.complaints.append(text)
        if one.id and not answer.already_published and not self._history.lossy:
            text = f"publish #{one.number} is repeated, and answered as if it were new"
            self._history.complaints.append(text)
        if answer.delivery.state == DeliveryState.DELIVERY_STATE_FAILED:
            self._history.complaints.append(f"the delivery of #{one.number} has failed")
        one.id, one.ended = one.id or found, min(one.ended, now)
        if answer.delivery.state in SETTLED and one.settled == NEVER:
            one.settled, one.state = now, named(answer.delivery.state)

    async def _change(self, user: str) -> None:
        """Follows or unfollows; stars are followed by many, then left by many, again and again."""
        mood = int(time.monotonic() / MOOD_SECONDS) % 2
        follows = self._chance.random() < (0.85 if mood else 0.15)
        names = self._world.stars if self._chance.random() < 0.8 else self._world.entities
        if not follows:
            names = tuple(sorted(self._following[user].intersection(names)))
        left = [n for n in names if n != user and (user, n) not in self._unknown]
        if not left:
            return
        name = self._chance.choice(left)
        change = Change(user, name, on=follows, began=time.monotonic())
        self._history.changes.append(change)
        request_id = f"change {len(self._history.changes)}"
        try:
            if follows:
                wish = FollowRequest(follower=user, followee=name, request_id=request_id)
                made = await self._calls.tried(
                    lambda client: client.follows.Follow(wish, timeout=CALL_SECONDS)
                )
                change.new = made is not None and not made.already_following
                known = made is not None
            else:
                end = UnfollowRequest(follower=user, followee=name, request_id=request_id)
                ended = await self._calls.tried(
                    lambda client: client.follows.Unfollow(end, timeout=CALL_SECONDS)
                )
                known = ended is not None
        except grpc.aio.AioRpcError as error:
            self._calls.complain(f"{user} and {name}", error)
            known = False
        if not known:
            self._unknown.add((user, name))
            return
        change.ended = time.monotonic()
        if follows:
            self._following[user].add(name)
        else:
            self._following[user].discard(name)

    async def _delete(self, _: str) -> None:
        if not self._own:
            return
        one = self._own.pop(self._chance.randrange(len(self._own)))
        one.deleting = time.monotonic()
        request = DeleteActivityRequest(
            id=str(one.id), actor=one.actor, request_id=f"delete {one.number}"
        )
        try:
            answer = await self._calls.tried(
                lambda client: client.activities.DeleteActivity(request, timeout=CALL_SECONDS)
            )
        except grpc.aio.AioRpcError as error:
            if reason(error) != "ACTIVITY_NOT_FOUND" or not self._history.lossy:
                self._calls.complain(f"the deletion of #{one.number}", error)
            return
        if answer is not None:
            one.deleted = time.monotonic()

    async def _ask(self, _: str) -> None:
        """Asks how far the delivery of one of the last activities has come."""
        if not self._own:
            return
        one = self._chance.choice(self._own[-5:])
        began = time.monotonic()
        try:
            answer = await self._calls.tried(
                lambda client: client.activities.GetDelivery(
                    GetDeliveryRequest(id=str(one.id)), timeout=CALL_SECONDS
                )
            )
        except grpc.aio.AioRpcError as error:
            if reason(error) != "ACTIVITY_NOT_FOUND" or not self._history.lossy:
                self._calls.complain(f"the delivery of #{one.number}", error)
            return
        if answer is None:
            return
        now, name = time.monotonic(), named(answer.delivery.state)
        settled = answer.delivery.state in SETTLED
        self._history.states.append(State(one.number, began, now, settled, name))
        if settled and one.settled == NEVER:
            one.settled, one.state = now, name

    async def _walk(self, user: str) -> None:
        walk = await walked(self._calls, user, self._chance.choice([10, 50, 100]))
        self._history.walks.append(walk)


async def walked(calls: Calls, user: str, size: int, *, gives_up: bool = True) -> Walk:
    """Walks a feed from its top to its end; each page is asked of any server."""
    walk = Walk(user, time.monotonic(), NEVER)
    request = GetFeedRequest(user=user, page_size=size)
    while True:
        try:
            answer = await calls.tried(
                lambda client: client.feeds.GetFeed(request, timeout=CALL_SECONDS),
                gives_up=gives_up,
            )
        except grpc.aio.AioRpcError as error:
            calls.complain(f"the feed of {user}", error)
            answer = None
        if answer is None:
            walk.complete = False
            break
        walk.items += (
            Item(
                int(one.activity.activity.id), int(one.activity.activity.object.id), tuple(one.via)
            )
            for one in answer.page.items
        )
        request.page_token = answer.page.next_page_token
        if not request.page_token:
            break
    walk.ended = time.monotonic()
    return walk


async def outbox(calls: Calls, entity: str) -> list[Item]:
    """All that ListActivities lists."""
    request = ListActivitiesRequest(entity=entity, page_size=100)
    items: list[Item] = []
    while True:
        page = await calls.answered(
            lambda client: client.activities.ListActivities(request, timeout=CALL_SECONDS)
        )
        items += (
            Item(int(one.activity.id), int(one.activity.object.id)) for one in page.activities
        )
        request.page_token = page.next_page_token
        if not request.page_token:
            return items


async def following(calls: Calls, user: str) -> set[str]:
    """All whom a user follows."""
    request = ListFollowingRequest(entity=user, page_size=1000)
    page = await calls.answered(
        lambda client: client.follows.ListFollowing(request, timeout=CALL_SECONDS)
    )
    assert not page.next_page_token
    return {edge.followee for edge in page.edges}


async def everything(work: Iterable[Awaitable[T]], at_once: int = 16) -> list[T]:
    """The results of many calls, some at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[T]) -> T:
        async with slots:
            return await call

    return await asyncio.gather(*(one(call) for call in work))
