"""Two days of Twitter, imported by the real importer: every feed is what the files say it is.

65,560 users, 95,008 follows, 20,000 activities. Reading every feed takes half a minute, so each
class imports once, and its tests change nothing that another of them looks at.
"""

import random
from pathlib import Path

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, Activity, Ref
from activityfeed.v1.admin_service_pb2 import FEED_STATE_WARM

from feedsvc.config import Limits
from tests.data.checking import Check
from tests.data.conftest import Start
from tests.data.oracle import DataSet, Event, Oracle, higgs
from tests.data.serving import Readers, Serving, for_each
from tests.serving import at_ms

pytestmark = [pytest.mark.data, pytest.mark.timeout(300)]

FILES = ("activities.tsv.gz", "follows.tsv.gz")
USERS, FOLLOWS, ACTIVITIES = 65_560, 95_008, 20_000
#: What the activities come to in the feeds of their actors' followers.
DELIVERIES = 235_917
#: Feeds of which a sample is made.
SAMPLE = 2_000

#: Warm feeds are trimmed, of 317 users; no outbox is, for nobody did more than 55 things.
TRIMMED_FEEDS = Limits(feed_cap=50, feed_slack=10, outbox_cap=60)
#: Outboxes are trimmed too.
TRIMMED_OUTBOXES = Limits(feed_cap=10, feed_slack=2, outbox_cap=12)


def expected(event: Event) -> Activity:
    return Activity(
        actor=event.actor,
        verb=event.verb,
        object=Ref(id=event.thing),
        audience=AUDIENCE_FOLLOWERS,
        publish_time=at_ms(event.ms),
    )


@pytest.fixture(scope="module")
def data(higgs_small: Path) -> DataSet:
    return higgs(higgs_small)


@pytest.fixture(scope="module")
def files(higgs_small: Path) -> list[Path]:
    return [higgs_small / name for name in FILES]


@pytest.fixture(scope="module")
def users(data: DataSet) -> list[str]:
    """All that the files name."""
    found = {user for edge in (data.followees, data.followers) for user in edge}
    found.update(name for event in data.events for name in (event.actor, event.thing))
    assert (len(found), data.follows, len(data.events)) == (USERS, FOLLOWS, ACTIVITIES)
    return sorted(found)


@pytest.fixture(scope="module")
def lengths(data: DataSet, users: list[str]) -> dict[str, int]:
    """How long everybody's feed is when nothing is trimmed."""
    oracle = Oracle(data, cap=ACTIVITIES)
    return {user: len(oracle.feed(user)) for user in users}


@pytest.fixture(scope="module")
def sample(users: list[str], lengths: dict[str, int]) -> list[str]:
    """The users with the longest feeds, and others as the dice say."""
    longest = sorted(users, key=lambda user: -lengths[user])[: SAMPLE // 4]
    others = sorted(set(users) - set(longest))
    return longest + random.Random(0).sample(others, SAMPLE - len(longest))


def report(**but: object) -> dict[str, object]:
    """What an import must report, but for the seconds."""
    return {
        "follows": FOLLOWS,
        "activities": ACTIVITIES,
        "deliveries": 0,
        "skipped_cold": 0,
        "duplicates": 0,
        "refused": {},
        "malformed": 0,
        "seconds": pytest.approx(100, abs=100),
    } | but


class World:
    """What a class of tests looks at."""

    def __init__(self, serving: Serving, data: DataSet, files: list[Path], *, warm: bool) -> None:
        self.serving = serving
        self.data = data
        self.files = files
        self.imported = serving.load("higgs", *files, warm=warm)

    def again(self) -> dict[str, object]:
        """Imports again, which may change nothing that is stored."""
        before = self.serving.stored()
        imported = self.serving.load("higgs", *self.files)
        after = self.serving.stored()
        differing = {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        }
        assert not differing, f"{len(before)} keys became {len(after)}: {sorted(differing)[:10]}"
        return imported.report

    async def check(self, users: list[str]) -> Check:
        """Compares the feeds of users."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.feeds(readers, users)
        check.done()
        return check


async def verify(readers: Readers, users: list[str], oracle: Oracle, limits: Limits) -> None:
    """Compares what is stored of feeds, which must be warm, with the outboxes."""

    async def one(user: str) -> None:
        stats, found = await readers.stats(user), await readers.verify(user)
        assert (stats.state, found.state) == (FEED_STATE_WARM, FEED_STATE_WARM), user
        assert not found.differences, (user, found)
        assert found.compared == stats.entries
        length = len(oracle.feed(user))
        most = limits.feed_cap + limits.feed_slack
        least = limits.feed_cap if length > most else min(length, limits.feed_cap)
        assert least <= stats.entries <= min(length, most), (user, stats, length)
        assert bool(stats.floor) == (stats.entries < length), (user, stats, length)

    await for_each(users, one)


class TestCold:
    """Nobody had read a feed before the import."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path]) -> World:
        return World(start(), data, files, warm=False)

    def test_the_report_adds_up(self, world: World) -> None:
        assert world.imported.report == report(skipped_cold=DELIVERIES)

    async def test_every_feed(self, world: World, users: list[str]) -> None:
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES
        assert check.activities == ACTIVITIES

    async def test_importing_again_changes_nothing(self, world: World, sample: list[str]) -> None:
        again = world.again()
        cold = again["skipped_cold"]
        assert cold in (0, DELIVERIES)  # whether the feeds were read before
        assert again == report(
            follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES, skipped_cold=cold
        )
        await world.check(sample)

    async def test_the_largest_audiences(self, world: World) -> None:
        data = world.data
        largest = sorted(data.followers, key=lambda one: -len(data.followers[one]))[:20]
        assert len(data.followers[largest[0]]) == 23_737
        async with world.serving.readers() as readers:
            for user in largest:
                found = await readers.followers(user)
                assert len(found) == len(set(found))
                assert set(found) == data.followers[user]
                counts = len(data.followers[user]), len(data.followees[user])
                assert await readers.counts(user) == counts


class TestWarm:
    """All feeds were warm when the activities came, and long ones are trimmed."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path]) -> World:
        return World(start(TRIMMED_FEEDS), data, files, warm=True)

    def test_the_report_adds_up(self, world: World) -> None:
        warmed = len(
            {actor.actor for actor in world.data.events}
            | world.data.followees.keys()
            | world.data.followers.keys()
        )
        assert world.imported.report == report(deliveries=DELIVERIES, warmed=warmed)

    async def test_warm_feeds_hold_what_the_outboxes_do(
        self, world: World, sample: list[str]
    ) -> None:
        oracle = Oracle(world.data, world.serving.limits.outbox_cap)
        followed = [user for user in sample if user in world.data.followees]
        async with world.serving.readers() as readers:
            await verify(readers, followed, oracle, world.serving.limits)

    async def test_every_feed_from_what_is_stored(self, world: World, users: list[str]) -> None:
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES

    def test_importing_again_changes_nothing(self, world: World) -> None:
        # Every feed is read after this: see below.
        assert world.again() == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)

    async def test_every_feed_from_the_outboxes(self, world: World, users: list[str]) -> None:
        world.serving.chill(users)
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES


class TestRetention:
    """Outboxes kept only the newest activities."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path]) -> World:
        return World(start(TRIMMED_OUTBOXES), data, files, warm=False)

    def test_the_report_adds_up(self, world: World) -> None:
        assert world.imported.report == report(skipped_cold=DELIVERIES)

    async def test_every_feed_that_is_trimmed(
        self, world: World, lengths: dict[str, int], sample: list[str]
    ) -> None:
        """The others are as before; a sample of them has to do."""
        cap = world.serving.limits.feed_cap
        trimmed = {user for user, length in lengths.items() if length > cap}
        check = await world.check(sorted(trimmed.union(sample)))
        assert check.items < sum(lengths[user] for user in trimmed.union(sample))
        assert len(check.floors) > 10
        async with world.serving.readers() as readers:
            for floor in set(check.floors.values()):
                refusal = await readers.refusal_to_get(floor)
                assert refusal.reason == "ACTIVITY_NOT_FOUND"

    async def test_importing_again_changes_nothing(self, world: World, sample: list[str]) -> None:
        again = world.again()
        cap = world.serving.limits.outbox_cap
        kept = sum(min(cap, len(numbers)) for numbers in world.data.published.values())
        assert again["refused"] == {"BEFORE_RETENTION": ACTIVITIES - kept}
        assert again["duplicates"] == FOLLOWS + kept
        assert (again["follows"], again["activities"], again["deliveries"]) == (0, 0, 0)
        await world.check(sample)


class TestOtherStores:
    @pytest.fixture(scope="class", params=["redis7", "cluster"])
    @classmethod
    def world(
        cls, request: pytest.FixtureRequest, start: Start, data: DataSet, files: list[Path]
    ) -> World:
        return World(start(kind=request.param), data, files, warm=False)

    async def test_a_sample_of_feeds(self, world: World, sample: list[str]) -> None:
        assert world.imported.report == report(skipped_cold=DELIVERIES)
        await world.check(sample)
        await world.check(sample)
        async with world.serving.readers() as readers:
            oracle = Oracle(world.data, world.serving.limits.outbox_cap)
            await verify(readers, sample[:200], oracle, world.serving.limits)
