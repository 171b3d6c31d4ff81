"""Two days of Twitter, imported by the real importer: every feed is what the files say it is.

65,560 users, 95,008 follows, 20,000 activities. Reading every feed takes half a minute, so each
class imports once, and its tests change nothing that another of them looks at.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, Activity, Ref
from activityfeed.v1.admin_service_pb2 import FEED_STATE_WARM

from feedsvc.config import Limits
from tests.data.checking import Check
from tests.data.oracle import DataSet, Event, Oracle, higgs
from tests.data.serving import Serving, Start, for_each
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
#: Outboxes are trimmed too, those of 33 actors.
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

    def __init__(self, serving: Serving, data: DataSet, files: list[Path]) -> None:
        self.serving = serving
        self.data = data
        self.files = files

    def load(self, *, warm: bool = False) -> dict[str, object]:
        return self.serving.load("higgs", *self.files, warm=warm).report

    def again(self) -> dict[str, object]:
        """Imports again, which may change nothing that is stored."""
        before = self.serving.stored()
        found = self.load()
        after = self.serving.stored()
        names = before.keys() | after.keys()
        differing = sorted(name for name in names if before.get(name) != after.get(name))
        assert not differing, f"{len(before)} keys became {len(after)}: {differing[:10]}"
        return found

    async def check(self, users: Iterable[str]) -> Check:
        """Compares the feeds of users."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.feeds(readers, list(users))
        check.done()
        return check

    async def verify(self, lengths: Mapping[str, int]) -> None:
        """Has the service compare what is stored of feeds, which must be warm, with the outboxes.

        `lengths` are those of the users' feeds when nothing is trimmed.
        """
        cap = self.serving.limits.feed_cap
        most = cap + self.serving.limits.feed_slack
        async with self.serving.readers() as readers:

            async def one(user: str) -> None:
                stats, found = await readers.stats(user), await readers.verify(user)
                assert (stats.state, found.state) == (FEED_STATE_WARM, FEED_STATE_WARM), user
                assert not found.differences, (user, found)
                assert found.compared == stats.entries
                assert min(lengths[user], cap) <= stats.entries <= min(lengths[user], most), stats
                assert bool(stats.floor) == (stats.entries < lengths[user]), (user, stats)

            await for_each(lengths, one)


class TestWarm:
    """All feeds were warm when the activities came."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path]) -> World:
        world = World(start(), data, files)
        users = {event.actor for event in data.events}.union(data.followees, data.followers)
        assert world.load(warm=True) == report(deliveries=DELIVERIES, warmed=len(users))
        return world

    async def test_warm_feeds_hold_what_the_outboxes_do(
        self, world: World, lengths: dict[str, int], sample: list[str]
    ) -> None:
        # Nobody else was warmed.
        await world.verify({user: lengths[user] for user in sample if lengths[user]})

    async def test_every_feed_from_what_is_stored(self, world: World, users: list[str]) -> None:
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES
        assert check.activities == ACTIVITIES

    def test_importing_again_changes_nothing(self, world: World) -> None:
        # Every feed is read after it: see below.
        assert world.again() == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)

    async def test_every_feed_from_the_outboxes(self, world: World, users: list[str]) -> None:
        world.serving.chill(users)
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES

    async def test_the_largest_audiences(self, world: World) -> None:
        data = world.data
        largest = sorted(data.followers, key=lambda one: -len(data.followers[one]))[:20]
        assert len(data.followers[largest[0]]) == 23_737
        async with world.serving.readers() as readers:
            for user in largest:
                found = await readers.followers(user)
                assert len(found) == len(set(found))
                assert set(found) == data.followers[user]
                counts = len(data.followers[user]), len(data.sources(user)) - 1
                assert await readers.counts(user) == counts


class TestTrimmedFeeds:
    """Nobody had read a feed before the activities came, and long ones are trimmed when read."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path]) -> World:
        world = World(start(TRIMMED_FEEDS), data, files)
        assert world.load() == report(skipped_cold=DELIVERIES)
        return world

    async def test_every_feed(
        self, world: World, users: list[str], lengths: dict[str, int], sample: list[str]
    ) -> None:
        check = await world.check(users)
        assert check.items == DELIVERIES + ACTIVITIES
        await world.verify({user: lengths[user] for user in sample})

    async def test_importing_again_changes_nothing(self, world: World, sample: list[str]) -> None:
        again = world.again()
        cold = again["skipped_cold"]
        assert cold in (0, DELIVERIES)  # whether the feeds were read before
        assert again == report(
            follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES, skipped_cold=cold
        )
        await world.check(sample)


class TestTrimmedOutboxes:
    """Retention took some activities; of all feeds that lack any, some were warm meanwhile."""

    @pytest.fixture(scope="class")
    @classmethod
    def warm(cls, lengths: dict[str, int], sample: list[str]) -> set[str]:
        """Users whose feeds are warm when the activities come; all others are cold."""
        long = sorted(
            user for user, length in lengths.items() if length > TRIMMED_OUTBOXES.feed_cap
        )
        return set(long[::2]).union(sample[::2])

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, start: Start, data: DataSet, files: list[Path], warm: set[str]) -> World:
        world = World(start(TRIMMED_OUTBOXES), data, files)
        activities, edges = files
        follows = world.serving.load("higgs", edges).report
        assert follows == report(activities=0)

        async def read() -> None:
            async with world.serving.readers() as readers:
                await for_each(warm, readers.feed)

        asyncio.run(read())
        found = world.serving.load("higgs", activities).report
        cold = sum(len(data.followers.get(event.actor, set()) - warm) for event in data.events)
        delivered = found["deliveries"]
        assert found == report(follows=0, skipped_cold=cold, deliveries=delivered)
        assert 0 < delivered <= DELIVERIES - cold
        return world

    async def test_every_feed_that_is_trimmed(
        self, world: World, lengths: dict[str, int], sample: list[str], warm: set[str]
    ) -> None:
        """The others are as before; a sample of them has to do."""
        cap = world.serving.limits.feed_cap
        users = {user for user, length in lengths.items() if length > cap}.union(sample)
        await world.verify({user: lengths[user] for user in warm})
        check = await world.check(users)
        assert check.items < sum(lengths[user] for user in users)
        assert len(check.floors) > 10
        async with world.serving.readers() as readers:
            for floor in set(check.floors.values()):
                refusal = await readers.refusal_to_get(floor)
                assert refusal.reason == "ACTIVITY_NOT_FOUND"

    async def test_importing_again_changes_nothing(self, world: World, sample: list[str]) -> None:
        again = world.again()
        await world.check(sample)
        cap = world.serving.limits.outbox_cap
        kept = sum(min(cap, len(numbers)) for numbers in world.data.published.values())
        assert again["refused"] == {"BEFORE_RETENTION": ACTIVITIES - kept}
        assert again["duplicates"] == FOLLOWS + kept
        assert (again["follows"], again["activities"], again["deliveries"]) == (0, 0, 0)


class TestOtherStores:
    """A sample of feeds on each of the other stores."""

    @pytest.fixture(scope="class", params=["redis7", "cluster"])
    @classmethod
    def world(
        cls, request: pytest.FixtureRequest, start: Start, data: DataSet, files: list[Path]
    ) -> World:
        return World(start(kind=request.param), data, files)

    async def test_a_sample_of_feeds(
        self, world: World, lengths: dict[str, int], sample: list[str]
    ) -> None:
        assert world.load() == report(skipped_cold=DELIVERIES)
        await world.check(sample)
        await world.verify({user: lengths[user] for user in sample[:200]})
        await world.check(sample)
