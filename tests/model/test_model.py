"""The service against the model: both agree after any operations in any order.

A hypothesis state machine drives a real server over gRPC on a real store, one step at a time.
tests/interleavings covers concurrent operations.
"""

import asyncio
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from feedsvc.config import Limits
from feedsvc.core import deep
from tests.model.following import FollowingRules
from tests.model.live import LiveRules
from tests.model.machine import NAMES, names
from tests.model.publishing import PublishingRules
from tests.model.reading import ReadingRules
from tests.serving import Service

# uvloop does not run the handler of a signal: the timeout ends the process.
pytestmark = pytest.mark.timeout(600, method="thread")

# Two followers in a shard are few, three are many. Workers deliver after the first follower. An
# entity with three followers is a celebrity, and with one follower it is no longer a celebrity.
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


class FeedMachine(PublishingRules, FollowingRules, ReadingRules, LiveRules):
    """All rules, the loss of caches, and the checks after the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps_checked = 0

    @rule(users=st.lists(names, min_size=1, max_size=4, unique=True))
    def expire(self, users: list[str]) -> None:
        self.run(self.service.make_cold(*users))

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
    def feed_equals_the_model(self) -> None:
        """Check another feed after every third step; `teardown` checks all feeds."""
        self.steps_checked += 1
        if self.steps_checked % 3 == 0:
            self._check_feed(NAMES[self.steps_checked // 3 % len(NAMES)])

    def _check_feed(self, user: str) -> None:
        activity_ids = [int(activity_id) for activity_id in self.run(self.service.feed(user))]
        assert activity_ids == self.oracle.feed(user)

    def teardown(self) -> None:
        for user in NAMES:
            self._check_feed(user)
            following = [followee for follower, followee in self.oracle.edges if follower == user]
            followers = [follower for follower, followee in self.oracle.edges if followee == user]
            assert self.run(self.service.counts(user)) == (len(followers), len(following))
            assert self.run(self.service.following(user, size=2)) == following[::-1]
            assert sorted(self.run(self.service.followers(user, size=2))) == sorted(followers)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


def drive(
    runner: asyncio.Runner, url: str, limits_: Limits, examples: int, steps: int = 40
) -> None:
    """Run the machine on a server with these limits."""
    service_ = runner.run(Service.start(url, limits_, checkpoint_seconds=0.02))

    class Machine(FeedMachine):
        service = service_
        limits = limits_

    def token_hex(size: int) -> str:
        FeedMachine.drawn[0] += 1
        return f"{FeedMachine.drawn[0]:0{2 * size}x}"

    Machine.runner = runner
    try:
        # An example must go the same way each time. The service draws at random where an activity
        # without a request id stands within its millisecond, and refuses some of these positions.
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
def _small_deep_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every reader deep segments, and small ones."""
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 1)
    monkeypatch.setattr(deep, "DEEP_IDS", 6)


@pytest.mark.every_store
@pytest.mark.usefixtures("_small_deep_segments")
def test_service_agrees_with_the_model_at_small_caps(
    runner: asyncio.Runner, store_url: str
) -> None:
    drive(runner, store_url, SMALL, 40)


def test_service_agrees_with_the_model_at_middle_caps(
    runner: asyncio.Runner, store_url: str
) -> None:
    drive(runner, store_url, MIDDLE, 40)


def test_service_agrees_with_the_model_at_usual_caps(
    runner: asyncio.Runner, store_url: str
) -> None:
    drive(runner, store_url, USUAL, 25)


@pytest.mark.slow
@pytest.mark.timeout(3_600, method="thread")
@pytest.mark.parametrize("limits", [SMALL, MIDDLE, USUAL], ids=["small", "middle", "usual"])
def test_service_agrees_with_the_model_for_long(
    runner: asyncio.Runner, store_url: str, limits: Limits
) -> None:
    drive(runner, store_url, limits, 400, steps=80)
