"""The service against the model: whatever is done in whatever order, both agree.

A hypothesis state machine drives a real server over gRPC on a real store. One step at a time: what
may happen at the same time is the business of tests/interleavings.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from unittest.mock import patch

import grpc
import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, AUDIENCE_TO_ONLY, Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    DeliveryState,
    PublishActivityRequest,
    PublishActivityResponse,
)
from activityfeed.v1.feed_pb2 import FeedPage, PageEnd
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from activityfeed.v1.subscription_service_pb2 import SUBSCRIPTION_START_RESUMED
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from feedsvc.config import Limits
from feedsvc.core import deep
from tests.model.oracle import Act, Oracle
from tests.serving import Refusal, Service, at_ms, ids_of, refusal_of, said

pytestmark = pytest.mark.timeout(600)

T = TypeVar("T")

DELIVERED = DeliveryState.DELIVERY_STATE_DELIVERED
PULLED = DeliveryState.DELIVERY_STATE_PULLED

#: Entities; some look like keys of the store.
NAMES = ("ann", "ben", "cat", "repo:x", "f:ann", "{1}o:ben", "öl")
OLD_MS = 1_400_000_000_000
# Two followers in a shard are few, three are many. After one follower workers go on; with three an
# entity is a celebrity, and with one it is one no more.
SMALL = Limits(
    feed_cap=10,
    feed_slack=2,
    outbox_cap=12,
    shards=4,
    push_chunk=3,
    inline_audience=1,
    celebrity_threshold=3,
    celebrity_lower_percent=67,
)
MIDDLE = Limits(feed_cap=50, feed_slack=10, outbox_cap=60, shards=16)
USUAL = Limits()

names = st.sampled_from(NAMES)
sizes = st.integers(1, 7)
#: Old times are few, so that many activities share a millisecond, and far in the future is like
#: now.
times = st.one_of(
    st.none(),
    st.integers(OLD_MS, OLD_MS + 12),
    st.integers(OLD_MS, OLD_MS + 10_000_000),
    st.just(4_000_000_000_000),
)
addressees = st.lists(names, max_size=2, unique=True)
#: Which of what there is. Drawn without a look at it: what is refused may depend on the clock, and
#: hypothesis wants an example to draw the same each time.
any_of_them = st.integers(0, 999)


def picked(there: Sequence[T], which: int) -> T:
    return there[which % len(there)]


@dataclass
class Walk:
    """A reader that stands somewhere in a feed, with the tokens of its last page."""

    user: str
    page: FeedPage
    above: int | None
    """Exclusive: the next page towards older ids begins below it; None: the end."""
    below: int | None
    """Exclusive: the next page towards newer ids begins above it; None: the model cannot tell."""


@dataclass
class Subscription:
    """A subscriber that stands somewhere in a user's log."""

    user: str
    token: str
    position: int


@dataclass
class Request:
    """A mutation that may be sent again."""

    method: Any
    message: Any
    answer: Any
    acts: list[Act] = field(default_factory=list)


class FeedMachine(RuleBasedStateMachine):
    """The rules. `service`, `runner` and `limits` are set by the test that runs it."""

    service: Service
    runner: asyncio.Runner
    limits: Limits
    drawn: ClassVar[list[int]] = [0]
    """How many random tokens the service has drawn in this example."""

    walks: Bundle[Walk] = Bundle("walks")
    subscriptions: Bundle[Subscription] = Bundle("subscriptions")

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle(self.limits.outbox_cap)
        self.published: list[int] = []
        self.requests: list[Request] = []
        self.externals: dict[tuple[str, str], tuple[Activity, int]] = {}
        self.serial = 0
        self.turn = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        self.oracle.step += 1
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.drawn[:] = [0]
        self.run(self.service.store.flushall())

    # Publishing.

    def _activity(
        self, actor: str, to: list[str], to_only: bool, ms: int | None, external: str
    ) -> Activity:
        self.serial += 1
        return Activity(
            actor=actor,
            verb="post",
            content=f"number {self.serial}",
            to=to,
            audience=AUDIENCE_TO_ONLY if to_only and to else AUDIENCE_FOLLOWERS,
            publish_time=None if ms is None else at_ms(ms),
            external_id=external,
        )

    def _accepted(self, activity: Activity, answer: PublishActivityResponse) -> Act:
        """A new activity came in: the model learns its id, and checks all else."""
        assert not answer.already_published
        assert answer.delivery.state in (DELIVERED, PULLED)
        one = int(answer.activity.id)
        now = int(time.time() * 1000)
        if activity.HasField("publish_time"):
            wanted = activity.publish_time.ToMilliseconds()
            assert answer.activity.publish_time == activity.publish_time
            if wanted < now:
                assert wanted <= one >> 21 < wanted + 1000
            else:
                assert one >> 21 <= now + 1000
        else:
            assert abs((one >> 21) - now) < 60_000
        followers = activity.audience == AUDIENCE_FOLLOWERS
        to = tuple(entity for entity in activity.to if not (followers and entity == activity.actor))
        if followers:
            outbox = self.oracle.outbox(activity.actor)
            if activity.HasField("publish_time"):
                assert one > outbox.lowest_welcome
            elif outbox.ids:
                assert one > outbox.ids[-1], "a new activity does not stand at the top"
        act = Act(one, activity.actor, to, followers)
        self.oracle.publish(act)
        if activity.external_id:
            self.externals[activity.actor, activity.external_id] = (activity, one)
        return act

    def _rejected(self, activity: Activity, refusal: Refusal) -> None:
        """A refusal must have its ground."""
        known = self.externals.get((activity.actor, activity.external_id))
        match refusal.reason:
            case "EXTERNAL_ID_EXPIRED":
                assert known
                assert not self.oracle.alive(known[1])
                assert not self.oracle.acts[known[1]].deleted
            case "BEFORE_RETENTION":
                outbox = self.oracle.outbox(activity.actor)
                assert activity.publish_time.ToMilliseconds() <= outbox.lowest_welcome >> 21
                assert outbox.lowest_welcome
            case "EXTERNAL_ID_CONFLICT":
                assert known
                assert refusal.metadata["activity_id"] == str(known[1])
            case "ACTIVITY_DELETED":
                assert known
                assert self.oracle.acts[known[1]].deleted
            case other:
                raise AssertionError(f"refused: {other}")

    @rule(
        actor=names,
        to=addressees,
        to_only=st.booleans(),
        ms=times,
        external=st.sampled_from(["", "", "", "e1", "e2"]),
        request=st.booleans(),
    )
    def publish(
        self, actor: str, to: list[str], to_only: bool, ms: int | None, external: str, request: bool
    ) -> None:
        activity = self._activity(actor, to, to_only, ms, external)
        message = PublishActivityRequest(
            activity=activity,
            request_id=f"p{self.serial}" if request else "",
            wait_for_delivery=True,
        )
        known = self.externals.get((actor, external)) if external else None
        try:
            answer = self.run(self._publish(message))
        except grpc.aio.AioRpcError as error:
            self._rejected(activity, refusal_of(error))
            return
        assert known is None, "an external id was used again"
        act = self._accepted(activity, answer)
        if request:
            method = self.service.activities.PublishActivity
            self.requests.append(Request(method, message, answer, [act]))
        self.published.append(act.id)

    async def _publish(self, message: PublishActivityRequest) -> PublishActivityResponse:
        answer = await self.service.activities.PublishActivity(message)
        return await self._told(answer, [answer])

    @rule(
        entries=st.lists(st.tuples(names, times, addressees), min_size=1, max_size=4),
        times_each=st.sampled_from([1, 1, 5, 20]),
    )
    def publish_batch(
        self, entries: list[tuple[str, int | None, list[str]]], times_each: int
    ) -> None:
        activities = [
            self._activity(actor, to, False, ms, "")
            for actor, ms, to in entries
            for _ in range(times_each)
        ]
        answer = self.run(self._publish_batch(activities))
        assert len(answer.results) == len(activities)
        made = []
        # Concurrent entries take effect in any order; the model takes them so that none is
        # unwelcome.
        for activity, result in sorted(
            zip(activities, answer.results, strict=True),
            key=lambda pair: int(pair[1].response.activity.id or 0),
        ):
            if result.HasField("error"):
                assert Refusal.of(result.error).reason == "BEFORE_RETENTION"
            else:
                made.append(self._accepted(activity, result.response).id)
        self.published += made[-2:]

    async def _publish_batch(self, activities: list[Activity]) -> Any:
        requests = [
            PublishActivityRequest(activity=one, wait_for_delivery=True) for one in activities
        ]
        answer = await self.service.activities.BatchPublishActivities(
            BatchPublishActivitiesRequest(requests=requests)
        )
        return await self._told(answer, [result.response for result in answer.results])

    async def _told(self, answer: T, published: list[PublishActivityResponse]) -> T:
        """Waits until the live followers of celebrities are told, which publishers do not."""
        if any(one.delivery.state == PULLED for one in published):
            await self.service.at_rest()
        return answer

    @rule(which=any_of_them)
    def import_again(self, which: int) -> None:
        """The same external id with the same body: what is there is returned."""
        if not self.externals:
            return
        activity, one = picked(list(self.externals.values()), which)
        try:
            answer = self.run(self._publish(PublishActivityRequest(activity=activity)))
        except grpc.aio.AioRpcError as error:
            self._rejected(activity, refusal_of(error))
            return
        assert answer.already_published
        assert answer.activity.id == str(one)
        self.oracle.delivered_again(self.oracle.acts[one])

    @rule(which=any_of_them)
    def retry(self, which: int) -> None:
        """Any request, sent again at any time, answers the same and changes nothing."""
        if not self.requests:
            return
        request = picked(self.requests, which)

        async def send() -> Any:
            answer = await request.method(request.message)
            again = isinstance(answer, PublishActivityResponse)
            return await self._told(answer, [answer] if again else [])

        answer = self.run(send())
        if isinstance(answer, PublishActivityResponse):
            assert answer.already_published
            assert answer.activity.id == request.answer.activity.id
            for act in request.acts:
                self.oracle.delivered_again(act)
        else:
            assert answer == request.answer

    @rule(which=any_of_them)
    def look_at_delivery(self, which: int) -> None:
        if not self.published:
            return
        one = picked(self.published, which)
        self.run(self._forget_let_go())
        try:
            found = self.run(self.service.delivery(str(one)))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not self.oracle.alive(one)
        else:
            assert found.state in (DELIVERED, PULLED)
            assert self.oracle.alive(one)

    # Deleting and reading single ones.

    @rule(which=any_of_them, request=st.booleans())
    def delete(self, which: int, request: bool) -> None:
        if not self.published:
            return
        one = picked(self.published, which)
        act = self.oracle.acts[one]
        self.run(self._forget_let_go())
        alive = self.oracle.alive(one)
        self.serial += 1
        request_id = f"d{self.serial}" if request else ""
        try:
            self.run(self.service.delete(str(one), act.actor, request_id))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not alive
        else:
            assert alive
            self.oracle.delete(act)
            # A log that begins before workers are done with it is told of it all the same.
            self.run(self.service.at_rest())

    @rule(which=any_of_them)
    def get(self, which: int) -> None:
        if not self.published:
            return
        one = picked(self.published, which)
        self.run(self._forget_let_go())
        try:
            found = self.run(self.service.get(str(one)))
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "ACTIVITY_NOT_FOUND"
            assert not self.oracle.alive(one)
        else:
            assert found.actor == self.oracle.acts[one].actor
            assert self.oracle.alive(one)

    async def _forget_let_go(self) -> None:
        await self.service.server.engine.retention.carry()

    # Following.

    @rule(follower=names, followee=names, request=st.booleans())
    def follow(self, follower: str, followee: str, request: bool) -> None:
        if follower == followee:
            return
        self.serial += 1
        message = FollowRequest(
            follower=follower,
            followee=followee,
            request_id=f"f{self.serial}" if request else "",
        )

        async def send() -> Any:
            return await self.service.follows.Follow(message)

        answer = self.run(send())
        assert answer.already_following != self.oracle.follow(follower, followee)
        if request:
            self.requests.append(Request(self.service.follows.Follow, message, answer))

    @rule(edges=st.lists(st.tuples(names, names), min_size=1, max_size=8))
    def follow_batch(self, edges: list[tuple[str, str]]) -> None:
        async def send() -> Any:
            requests = [FollowRequest(follower=a, followee=b) for a, b in edges]
            return await self.service.follows.BatchFollow(BatchFollowRequest(requests=requests))

        answer = self.run(send())
        for (follower, followee), result in zip(edges, answer.results, strict=True):
            if follower == followee:
                assert Refusal.of(result.error).reason == "INVALID_FIELD"
            else:
                new = self.oracle.follow(follower, followee)
                assert result.response.already_following != new

    @rule(which=any_of_them, request=st.booleans())
    def unfollow(self, which: int, request: bool) -> None:
        if self.oracle.edges:
            self._unfollow(*picked(list(self.oracle.edges), which), request)

    @rule(follower=names, followee=names)
    def unfollow_a_stranger(self, follower: str, followee: str) -> None:
        self._unfollow(follower, followee, False)

    def _unfollow(self, follower: str, followee: str, request: bool) -> None:
        self.serial += 1
        request_id = f"u{self.serial}" if request else ""
        answer = self.run(self.service.unfollow(follower, followee, request_id))
        assert answer.was_following == self.oracle.unfollow(follower, followee)

    # Reading pages.

    def _turn_page(self, walk: Walk, token: str, size: int, *, older: bool) -> None:
        """Reads the next page and compares it, its tokens and its end with the model."""
        page = self.run(self.service.page(walk.user, token, size))
        feed = self.oracle.feed(walk.user)
        if older:
            rest = feed if walk.above is None else [one for one in feed if one < walk.above]
            expected = rest[:size]
        else:
            rest = [one for one in feed if walk.below is not None and one > walk.below]
            expected = rest[-size:]
        assert [int(one) for one in ids_of(page)] == expected
        for item in page.items:
            assert list(item.via) == self.oracle.via(walk.user, int(item.activity.activity.id))
            assert (
                item.activity.activity.actor
                == self.oracle.acts[int(item.activity.activity.id)].actor
            )
        more = len(rest) > size
        floor = self.oracle.floor(walk.user)
        if more:
            assert page.end == PageEnd.PAGE_END_MORE
        elif not older:
            assert page.end == PageEnd.PAGE_END_NEWEST
        else:
            assert page.end == (PageEnd.PAGE_END_RETENTION if floor else PageEnd.PAGE_END_FEED_END)
            assert page.incomplete_below == (str(floor) if floor else "")
        assert bool(page.next_page_token) == (more or not older)
        assert page.newer_page_token
        assert page.resume_token
        if older:
            start = walk.above
            # An empty page at the top stands above what was deleted there: wherever that was.
            walk.below = expected[0] if expected else start - 1 if start else None
            walk.above = expected[-1] if more else None
        else:
            assert walk.below is not None
            walk.above = expected[-1] if expected else walk.below + 1
            walk.below = expected[0] if expected else walk.below
        walk.page = page

    @rule(target=walks, user=names, size=sizes)
    def open_feed(self, user: str, size: int) -> Walk:
        walk = Walk(user, FeedPage(), None, 0)
        self._turn_page(walk, "", size, older=True)
        return walk

    @rule(walk=walks, size=sizes)
    def go_on(self, walk: Walk, size: int) -> None:
        if walk.above is not None:
            self._turn_page(walk, walk.page.next_page_token, size, older=True)

    @rule(walk=walks, size=sizes)
    def go_newer(self, walk: Walk, size: int) -> None:
        if walk.below is not None:
            self._turn_page(walk, walk.page.newer_page_token, size, older=False)

    @rule(user=names, size=sizes)
    def walk_to_the_end(self, user: str, size: int) -> None:
        walk = self.open_feed_for(user, size)
        while walk.above is not None:
            self._turn_page(walk, walk.page.next_page_token, size, older=True)

    def open_feed_for(self, user: str, size: int) -> Walk:
        walk = Walk(user, FeedPage(), None, 0)
        self._turn_page(walk, "", size, older=True)
        return walk

    @rule(entity=names, size=sizes, own_only=st.booleans())
    def list_outbox(self, entity: str, size: int, own_only: bool) -> None:
        found = self.run(self.service.outbox(entity, page_size=size, own_only=own_only))
        assert [int(one) for one in found] == self.oracle.listing(entity, own_only=own_only)

    # Live.

    @rule(target=subscriptions, user=names)
    def subscribe(self, user: str) -> Subscription:
        async def open_one() -> str:
            stream = await self.service.subscribe(user)
            token = stream.token
            await stream.close()
            return token

        token = self.run(open_one())
        self.oracle.go_live(user)
        return Subscription(user, token, len(self.oracle.logs[user].events))

    @rule(target=subscriptions, user=names)
    def read_and_start_log(self, user: str) -> Subscription:
        page = self.run(self.service.page(user, resumable=True))
        assert [int(one) for one in ids_of(page)] == self.oracle.feed(user)[:20]
        self.oracle.go_live(user)
        return Subscription(user, page.resume_token, len(self.oracle.logs[user].events))

    @rule(subscription=consumes(subscriptions), target=subscriptions)
    def resume(self, subscription: Subscription) -> Subscription:
        """What has happened since the token, each thing once and in order, then quiet."""
        user = subscription.user

        async def read() -> tuple[list[tuple[str, str]], str]:
            await self.service.at_rest()
            stream = await self.service.subscribe(user, subscription.token)
            told = []
            assert (await stream.message()).started.start == SUBSCRIPTION_START_RESUMED
            while some := said(await stream.message()):
                told += some
            await stream.close()
            return told, stream.token

        told, token = self.run(read())
        log = self.oracle.logs[user]
        self.oracle.check_told(user, log.events[subscription.position :], told)
        return Subscription(user, token, len(log.events))

    # What happens to caches.

    @rule(users=st.lists(names, min_size=1, max_size=4, unique=True))
    def expire(self, users: list[str]) -> None:
        self.run(self.service.chill(*users))

    @rule()
    def flush_scripts(self) -> None:
        self.run(self.service.store.script_flush())

    @rule(user=names)
    def rebuild(self, user: str) -> None:
        self.run(self.service.rebuild(user))

    @rule(user=names)
    def verify(self, user: str) -> None:
        assert not self.run(self.service.verify(user)).differences

    @invariant()
    def one_feed_is_right(self) -> None:
        """A different one after each step; all of them at the end."""
        self.turn += 1
        if self.turn % 3 == 0:
            self._whole_feed(NAMES[self.turn // 3 % len(NAMES)])

    def _whole_feed(self, user: str) -> None:
        assert [int(one) for one in self.run(self.service.feed(user))] == self.oracle.feed(user)

    def teardown(self) -> None:
        for user in NAMES:
            self._whole_feed(user)
            following = [followee for follower, followee in self.oracle.edges if follower == user]
            followers = [follower for follower, followee in self.oracle.edges if followee == user]
            assert self.run(self.service.counts(user)) == (len(followers), len(following))
            assert self.run(self.service.following(user, size=2)) == following[::-1]
            assert sorted(self.run(self.service.followers(user, size=2))) == sorted(followers)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


def drive(
    runner: asyncio.Runner, url: str, limits_: Limits, examples: int, steps: int = 40
) -> None:
    service_ = runner.run(Service.start(url, limits_, checkpoint_seconds=0.02))

    class Machine(FeedMachine):
        service = service_
        limits = limits_

    def token_hex(size: int) -> str:
        FeedMachine.drawn[0] += 1
        return f"{FeedMachine.drawn[0]:0{2 * size}x}"

    Machine.runner = runner
    try:
        # An example must go the same way each time: the place of an activity without a request id
        # within its millisecond is drawn, and some places are refused.
        with patch("secrets.token_hex", token_hex):
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                    report_multiple_bugs=False,
                ),
            )
    finally:
        runner.run(service_.stop())


@pytest.fixture
def _deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep segments for everybody, and small ones."""
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 1)
    monkeypatch.setattr(deep, "DEEP_IDS", 6)


@pytest.mark.every_store
@pytest.mark.usefixtures("_deep")
def test_small_caps(runner: asyncio.Runner, store_url: str) -> None:
    drive(runner, store_url, SMALL, 40)


def test_middle_caps(runner: asyncio.Runner, store_url: str) -> None:
    drive(runner, store_url, MIDDLE, 40)


def test_usual_caps(runner: asyncio.Runner, store_url: str) -> None:
    drive(runner, store_url, USUAL, 25)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("limits", [SMALL, MIDDLE, USUAL], ids=["small", "middle", "usual"])
def test_for_long(runner: asyncio.Runner, store_url: str, limits: Limits) -> None:
    drive(runner, store_url, limits, 400, steps=80)
