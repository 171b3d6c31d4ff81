"""One history: traffic, subscribers and faults on a stage, then rest, and all read to the end."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import grpc.aio
from activityfeed.v1 import subscription_service_pb2 as pb
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

from feedsvc.core import ids, keys
from feedsvc.services.feed_pages import FeedQuery, outbox_resume_scope
from feedsvc.tokens import Tokens
from tests.faults.history import Publish
from tests.faults.lanes import CALL_SECONDS, PATIENCE_SECONDS, Calls, Lane, World, everything
from tests.faults.play import at_rest
from tests.harness.processes import ProcessDied
from tests.serving import refusal_of
from tests.streams.faults import StreamFaults
from tests.streams.history import Logged, Replay, StreamHistory, Subject, chains
from tests.streams.stage import StreamStage
from tests.streams.subscribers import (
    AllSubscriber,
    FeedSubscriber,
    Follower,
    Front,
    GatewaySubscriber,
    OutboxSubscriber,
    PageSubscriber,
    Poller,
    SlowSubscriber,
    Subscriber,
    heard,
)

USERS = 12
STARS = 3
TOPICS = 2
LANES = 4
#: How many of each kind of subscriber there are.
PLAIN, PAGED, GATEWAYS, OUTBOXES, EVERYTHING, POLLERS, SLOW = 3, 2, 2, 2, 1, 2, 2
#: Users on one stream of SubscribeFeeds.
TOGETHER = 4
#: Tokens that are resumed once more at rest: of each subscriber's events, and of its checkpoints.
EACH = 2
#: Bytes of a long activity, of which a slow reader's connection holds few.
LONG = 8_192
#: One in so many is long.
LONG_EACH = 5


class StreamLane(Lane):
    """Publishes, deletes, follows and unfollows; reads nothing."""

    def __init__(
        self,
        world: World,
        users: tuple[str, ...],
        calls: Calls,
        history: StreamHistory,
        chance: random.Random,
    ) -> None:
        super().__init__(world, users, calls, history, chance)
        self._doings = {self._publish: 70, self._change: 6, self._walk: 6, self._delete: 12}

    async def _send(self, one: Publish, request: PublishActivityRequest) -> None:
        if one.number % LONG_EACH == 0:
            request.activity.content = "x" * LONG
        await super()._send(one, request)


async def play(
    stage: StreamStage, name: str, seconds: float, chance: random.Random
) -> StreamHistory:
    """Plays one history on a stage that has come to rest, and brings it to rest again."""
    history = StreamHistory(fragile=stage.fragile)
    world = World.named(name, USERS, STARS, TOPICS)
    calls = Calls(lambda: stage.serving, history, random.Random(chance.random()))
    lanes = [
        StreamLane(world, world.users[n::LANES], calls, history, random.Random(chance.random()))
        for n in range(LANES)
    ]
    calls.deadline = time.monotonic() + PATIENCE_SECONDS
    await asyncio.gather(*(lane.begin() for lane in lanes))
    subscribers = _subscribers(stage, world, history, chance)
    running = [asyncio.create_task(one.run()) for one in subscribers]
    try:
        faults = StreamFaults(stage, history, random.Random(chance.random()))
        breaking = asyncio.create_task(faults.run())
        traffic = asyncio.gather(*(lane.run() for lane in lanes))
        under_way: list[asyncio.Future[Any]] = [breaking, traffic, *running]
        await asyncio.wait(under_way, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        breaking.cancel()
        await asyncio.wait([breaking])
        if not breaking.cancelled():
            breaking.result()
        calls.stopping = True
        await faults.heal()
        calls.deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            await traffic
            await at_rest(stage, history, calls)
            await _read_to_the_end(subscribers, running, world, history, calls)
            await _replayed(stage, history, chance)
            await _read_logs(stage, history)
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            history.complaints.append(str(error))
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    for process in stage.processes:
        try:
            process.check()
        except ProcessDied as error:
            history.complaints.append(str(error))
    history.complaints += stage.alarms()
    return history


def _subscribers(
    stage: StreamStage, world: World, history: StreamHistory, chance: random.Random
) -> list[Subscriber]:
    """Some of each kind; most follow those whom others follow too, and so share logs."""
    few = chance.sample(world.users, TOGETHER)

    def feeds(count: int) -> list[Subject]:
        return [Subject("feed", user) for user in chance.sample(few, count)]

    def outboxes() -> list[Subject]:
        return [Subject("outbox", chance.choice(world.stars + world.topics))]

    kinds: list[tuple[type[Subscriber], int, Callable[[], list[Subject]]]] = [
        (FeedSubscriber, PLAIN, lambda: feeds(1)),
        (PageSubscriber, PAGED, lambda: feeds(1)),
        (SlowSubscriber, SLOW, lambda: feeds(1)),
        (Poller, POLLERS, lambda: feeds(1)),
        (GatewaySubscriber, GATEWAYS, lambda: feeds(TOGETHER)),
        (OutboxSubscriber, OUTBOXES, outboxes),
        (AllSubscriber, EVERYTHING, lambda: [Subject("all")]),
    ]
    return [
        kind(
            f"{kind.__name__} {number}",
            subjects(),
            stage.fronts,
            history,
            random.Random(chance.random()),
        )
        for kind, count, subjects in kinds
        for number in range(count)
    ]


async def _read_to_the_end(
    subscribers: list[Subscriber],
    running: list[asyncio.Task[None]],
    world: World,
    history: StreamHistory,
    calls: Calls,
) -> None:
    """Publishes something last everywhere, and waits until everybody has been told.

    Raises TimeoutError if somebody is not.
    """
    for subscriber in subscribers:
        subscriber.staying = True
    followers = [one for subscriber in subscribers for one in subscriber.followers]
    begun = time.monotonic()
    await _until(lambda: all(one.there(begun) for one in followers), running, followers)
    history.settled_at = time.monotonic()
    await everything(_mark(entity, history, calls) for entity in world.entities)

    def told(one: Follower) -> bool:
        # Whoever has just lost a log may never be told what was in it.
        return one.lost_at > history.settled_at or history.marked(one.subject) <= one.seen

    await _until(lambda: all(map(told, followers)), running, [o for o in followers if not told(o)])


async def _mark(entity: str, history: StreamHistory, calls: Calls) -> None:
    number = len(history.publishes) + 1
    one = Publish(number, entity, (), followers=True, fresh=True, began=time.monotonic())
    history.publishes[number] = one
    activity = Activity(actor=entity, verb="mark", object=Ref(id=str(number)))
    request = PublishActivityRequest(activity=activity, request_id=f"mark {number}")
    answer = await calls.answered(
        lambda client: client.activities.PublishActivity(request, timeout=CALL_SECONDS)
    )
    one.id, one.ended = int(answer.activity.id), time.monotonic()
    history.markers[entity] = answer.activity.id


async def _until(
    come: Callable[[], bool], running: list[asyncio.Task[None]], followers: list[Follower]
) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not come():
        for task in running:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            late = min(followers, key=lambda one: one.heard)
            raise TimeoutError(f"without any faults {late.name} is not told what there is")
        await asyncio.sleep(0.02)


# Logs.

_KINDS = {b"c": "created", b"a": "added", b"r": "removed", b"f": "followed", b"u": "unfollowed"}


async def _read_logs(stage: StreamStage, history: StreamHistory) -> None:
    """Notes what the logs hold, and which places in them the tokens stand for."""
    tags = keys.tags(stage.limits["shards"])
    tokens = Tokens(await stage.redis.hget(keys.META, "secret"))
    for told in history.told:
        subject = told.subject
        if subject not in history.logs:
            history.logs[subject] = [
                await _read_log(stage, tags[shard], name)
                for shard, name in _logs(subject, len(tags))
            ]
        count = len(history.logs[subject])
        for token in {told.token, *(message.token for message in told.messages)} - {""}:
            scope = _bound(subject)
            history.places[subject, token] = tokens.read_log_positions(token, count, *scope)


def _logs(subject: Subject, shards: int) -> list[tuple[int, str]]:
    match subject.kind:
        case "feed":
            return [(ids.shard_for(subject.name, shards), subject.name)]
        case "outbox":
            return [(ids.shard_for(subject.name, shards), keys.OUTBOX_LOG + subject.name)]
        case "all":
            return [(shard, keys.ALL_LOG) for shard in range(shards)]


def _bound(subject: Subject) -> tuple[str, ...]:
    match subject.kind:
        case "feed":
            return FeedQuery(subject.name, "", "flat").resume_scope
        case "outbox":
            return outbox_resume_scope(subject.name, "", "flat")
        case "all":
            return ("all log", "flat")


async def _read_log(stage: StreamStage, tag: str, name: str) -> list[Logged]:
    """What a log holds, in the newest incarnation that has it."""
    incarnation = await stage.redis.hget(f"{tag}t", "incarnation") or b""
    entries = await stage.redis.xrange(f"{tag}l{incarnation.decode()}:{name}")
    found = []
    for place, fields in entries:
        ((kind, what), *_) = fields.items()
        found.append(Logged(place.decode(), _KINDS[kind], what.decode()))
    return found


# Replays.


async def _replayed(stage: StreamStage, history: StreamHistory, chance: random.Random) -> None:
    """Resumes some tokens once more."""
    tokens: dict[tuple[str, bool], list[tuple[Subject, str]]] = defaultdict(list)
    for chain in chains(history):
        for _, message in chain.parts:
            if message.at < history.settled_at:
                kind = chain.subscriber, not message.events
                tokens[kind].append((chain.subject, message.token))
    chosen = [one for some in tokens.values() for one in chance.sample(some, min(EACH, len(some)))]
    work = (
        _replay(subject, token, chance.choice(stage.fronts), history) for subject, token in chosen
    )
    history.replays += await everything(work, at_once=8)


async def _replay(subject: Subject, token: str, front: Front, history: StreamHistory) -> Replay:
    """Reads from a token to the end. Raises TimeoutError if the end does not come."""
    replay = Replay(subject, token, front.name)
    left = set(history.marked(subject))
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with grpc.aio.insecure_channel(front.target) as channel:
        stub = SubscriptionServiceStub(channel)
        while left:
            call = _resumed(stub, subject, token)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await call.read()
                    while left and message is not grpc.aio.EOF:
                        events = heard(message)
                        token = message.resume_token
                        replay.events += tuple(events)
                        left -= {event.what for event in events}
                        if left:
                            message = await call.read()
            except TimeoutError:
                raise TimeoutError(f"a token of {subject} does not resume to the end") from None
            except grpc.aio.AioRpcError as error:
                found = refusal_of(error)
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    replay.lost = not replay.events
                    return replay
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise TimeoutError(f"a token of {subject} is refused: {found}") from None
            finally:
                call.cancel()
    return replay


def _resumed(stub: Any, subject: Subject, token: str) -> Any:
    match subject.kind:
        case "feed":
            return stub.SubscribeFeed(
                pb.SubscribeFeedRequest(user=subject.name, resume_token=token)
            )
        case "outbox":
            return stub.SubscribeActivities(
                pb.SubscribeActivitiesRequest(entity=subject.name, resume_token=token)
            )
        case "all":
            return stub.SubscribeAll(pb.SubscribeAllRequest(resume_token=token))
