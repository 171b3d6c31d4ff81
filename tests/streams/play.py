"""One history of streams: subscribers beside the traffic, who read to the end when it is quiet."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import filterfalse

import grpc.aio
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest

from tests.harness.history import Publish
from tests.harness.play import Play
from tests.harness.traffic import CALL_SECONDS, PATIENCE_SECONDS, Lane, gather_limited
from tests.serving import refusal_of
from tests.streams.faults import StreamFaults
from tests.streams.history import Resumption, StreamHistory, Subject, chains_of
from tests.streams.logs import open_stream, read_logs
from tests.streams.stage import Front, StreamStage
from tests.streams.subscribers import (
    AllSubscriber,
    FeedSubscriber,
    GatewaySubscriber,
    OutboxSubscriber,
    PageSubscriber,
    Poller,
    SlowSubscriber,
    Subscriber,
    Subscription,
    events_in,
)

#: Users whose feeds the subscribers follow, so that they share logs; all on each gateway's stream.
FOLLOWED_USERS = 4
#: Number of subscribers of each kind.
SUBSCRIBERS: dict[type[Subscriber], int] = {
    FeedSubscriber: 3,
    PageSubscriber: 2,
    SlowSubscriber: 2,
    Poller: 2,
    GatewaySubscriber: 2,
    OutboxSubscriber: 2,
    AllSubscriber: 1,
}
#: Most tokens that are resumed once more: of each subscriber's events, and of its checkpoints.
MAX_RESUMED = 2
#: Bytes of a long activity, of which a slow reader's connection holds few.
LONG_BYTES = 8_192
#: Every fifth activity is long.
LONG_INTERVAL = 5


class StreamLane(Lane[StreamHistory]):
    """Publishes and deletes more than it reads."""

    actions = (("publish", 70), ("change_edge", 6), ("walk", 6), ("delete", 12))

    async def _send(self, publish: Publish, request: PublishActivityRequest) -> None:
        if publish.number % LONG_INTERVAL == 0:
            request.activity.content = "x" * LONG_BYTES
        await super()._send(publish, request)


class StreamPlay(Play[StreamStage, StreamHistory]):
    """Lanes that publish, and subscribers of each kind beside them."""

    users, stars, topics = 12, 3, 2
    lane_type, lane_count = StreamLane, 4

    def __init__(self, stage: StreamStage, name: str, chance: random.Random) -> None:
        super().__init__(stage, StreamHistory(may_lose_logs=stage.may_lose_logs), name, chance)
        self._subscribers = self._make_subscribers()
        self._subscriptions = [
            subscription
            for subscriber in self._subscribers
            for subscription in subscriber.subscriptions
        ]

    def _make_subscribers(self) -> list[Subscriber]:
        """Return subscribers of each kind; most share logs with others."""
        chance, population = self.chance, self.population
        users = chance.sample(population.users, FOLLOWED_USERS)

        def subjects_of(kind: type[Subscriber]) -> list[Subject]:
            if kind is AllSubscriber:
                return [Subject("all")]
            if kind is OutboxSubscriber:
                return [Subject("outbox", chance.choice(population.stars + population.topics))]
            count = FOLLOWED_USERS if kind is GatewaySubscriber else 1
            return [Subject("feed", user) for user in chance.sample(users, count)]

        return [
            kind(
                f"{kind.__name__} {number}",
                subjects_of(kind),
                self.stage.fronts,
                self.history,
                random.Random(chance.random()),
            )
            for kind, count in SUBSCRIBERS.items()
            for number in range(count)
        ]

    def make_faults(self, chance: random.Random) -> StreamFaults:
        return StreamFaults(self.stage, self.history, chance)

    def start_companions(self) -> None:
        self.companions = [asyncio.create_task(reader.run()) for reader in self._subscribers]

    async def look(self) -> None:
        await self._read_to_the_end()
        await self._resume_tokens()
        await read_logs(self.stage, self.history)

    async def _read_to_the_end(self) -> None:
        """Publish a marker everywhere, and wait until all subscribers have received theirs.

        Raise TimeoutError if a subscriber does not receive it.
        """
        for subscriber in self._subscribers:
            subscriber.is_staying = True
        began = time.monotonic()
        await self._wait_for_subscriptions(lambda subscription: subscription.is_alive(began))
        self.history.quiet_since = time.monotonic()
        await gather_limited(self._publish_marker(entity) for entity in self.population.entities)

        def is_at_end(subscription: Subscription) -> bool:
            # A subscriber that has just lost a log may never receive what was in it.
            was_lost = subscription.lost_at > self.history.quiet_since
            markers = self.history.markers_of(subscription.subject)
            return was_lost or markers <= subscription.added_ids

        await self._wait_for_subscriptions(is_at_end)

    async def _publish_marker(self, entity: str) -> None:
        number = len(self.history.publishes) + 1
        publish = Publish(
            number, entity, (), to_followers=True, is_untimed=True, began=time.monotonic()
        )
        self.history.publishes[number] = publish
        activity = Activity(actor=entity, verb="mark", object=Ref(id=str(number)))
        request = PublishActivityRequest(activity=activity, request_id=f"mark {number}")
        answer = await self.caller.call(
            lambda client: client.activities.PublishActivity(request, timeout=CALL_SECONDS)
        )
        publish.id, publish.ended = int(answer.activity.id), time.monotonic()
        self.history.markers[entity] = answer.activity.id

    async def _wait_for_subscriptions(self, is_ready: Callable[[Subscription], bool]) -> None:
        """Wait until all subscriptions are ready. Raise TimeoutError, or a subscriber's error."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while late := [*filterfalse(is_ready, self._subscriptions)]:
            for task in self.companions:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                silent = min(late, key=lambda subscription: subscription.last_message_at)
                text = f"without any faults {silent.name} does not receive what its log holds"
                raise TimeoutError(text)
            await asyncio.sleep(0.02)

    async def _resume_tokens(self) -> None:
        """Resume some of the tokens of each subscriber once more."""
        tokens: dict[tuple[str, bool], list[tuple[Subject, str]]] = defaultdict(list)
        for chain in chains_of(self.history):
            for _, message in chain.parts:
                if message.time < self.history.quiet_since:
                    is_checkpoint = not message.events
                    tokens[chain.subscriber, is_checkpoint].append((chain.subject, message.token))
        chosen = [
            subject_and_token
            for candidates in tokens.values()
            for subject_and_token in self.chance.sample(
                candidates, min(MAX_RESUMED, len(candidates))
            )
        ]
        self.history.resumptions += await gather_limited(
            (
                _resume(subject, token, self.chance.choice(self.stage.fronts), self.history)
                for subject, token in chosen
            ),
            limit=8,
        )


async def _resume(subject: Subject, token: str, front: Front, history: StreamHistory) -> Resumption:
    """Read from a token to the end of the log. Raise TimeoutError if the end does not come."""
    resumption = Resumption(subject, token, front.name)
    markers = set(history.markers_of(subject))
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with grpc.aio.insecure_channel(front.address) as channel:
        while markers:
            call = open_stream(channel, subject, token)
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await call.read()
                    while markers and message is not grpc.aio.EOF:
                        events = events_in(message)
                        token = message.resume_token
                        resumption.events += tuple(events)
                        markers -= {event.target for event in events}
                        if markers:
                            message = await call.read()
            except TimeoutError:
                raise TimeoutError(f"a token of {subject} does not resume to the end") from None
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    resumption.is_lost = not resumption.events
                    return resumption
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    text = f"a token of {subject} is refused: {refusal_of(error)}"
                    raise TimeoutError(text) from None
            finally:
                call.cancel()
    return resumption
