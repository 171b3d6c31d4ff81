"""Two days of Twitter, imported by the real importer: every feed is what the files say it is.

65,560 users, 95,008 follows, 20,000 activities. Importing them and reading every feed takes a
minute or so: that is why each test looks at many things.
"""

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from activityfeed.admin.v1.admin_service_pb2 import FEED_STATE_WARM
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, Activity, Ref

from feedsvc.config import Limits
from tests.data.checking import Check
from tests.data.oracle import Event, Oracle, higgs
from tests.data.serving import Serving, for_each, on
from tests.serving import at_ms

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]

FILES = ("activities.tsv.gz", "follows.tsv.gz")
USERS, FOLLOWS, ACTIVITIES = 65_560, 95_008, 20_000
#: What the activities come to in the feeds of their actors' followers.
DELIVERIES = 235_917
#: Those of the one activity whose actor 10,000 follow, so that they read it for themselves.
PULLED = 23_737
#: The same of those whom 1,000 follow.
MORE_PULLED = 79_418
#: Users in a sample.
SAMPLE = 2_000

#: Everybody is pushed to everybody, or 13 are not.
NONE_ARE_PULLED = Limits(celebrity_threshold=0)
SOME_ARE_PULLED = Limits(celebrity_threshold=1_000)
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


def report(**but: object) -> dict[str, object]:
    """What an import must report, but for the seconds."""
    return {
        "follows": FOLLOWS,
        "activities": ACTIVITIES,
        "deliveries": 0,
        "skipped_cold": 0,
        "pulled": 0,
        "queued": 0,
        "duplicates": 0,
        "refused": {},
        "malformed": 0,
        "seconds": pytest.approx(100, abs=100),
    } | but


class World:
    """What a test looks at."""

    def __init__(self, serving: Serving, folder: Path) -> None:
        self.serving = serving
        self.data = higgs(folder)
        self.files = [folder / name for name in FILES]
        self.users = self._users()
        uncut = Oracle(self.data, cap=ACTIVITIES)
        self.lengths = {user: len(uncut.feed(user)) for user in self.users}
        """How long everybody's feed is when nothing is trimmed."""
        threshold = serving.limits.celebrity_threshold
        self.celebrities = {
            name
            for name, followers in self.data.followers.items()
            if 0 < threshold <= len(followers)
        }
        """What they do is read from their outboxes. A feed may hold it from when it was built."""
        longest = sorted(self.users, key=lambda user: -self.lengths[user])[: SAMPLE // 4]
        others = sorted(set(self.users).difference(longest))
        self.sample = longest + random.Random(0).sample(others, SAMPLE - len(longest))
        """The users with the longest feeds, and others as the dice say."""

    def _users(self) -> list[str]:
        """All that the files name."""
        data = self.data
        names = (name for event in data.events for name in (event.actor, event.thing))
        found = {*names, *data.followees, *data.followers}
        assert (len(found), data.follows, len(data.events)) == (USERS, FOLLOWS, ACTIVITIES)
        return sorted(found)

    def load(self, *, warm: bool = False) -> dict[str, object]:
        return self.serving.load("higgs", *self.files, warm=warm).report

    def load_again(self) -> dict[str, object]:
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

    async def verify(self, users: Iterable[str]) -> None:
        """Has the service compare what is stored of feeds, which must be warm, with the truth."""
        cap = self.serving.limits.feed_cap
        most = cap + self.serving.limits.feed_slack
        async with self.serving.readers() as readers:

            async def one(user: str) -> None:
                stats, found = await readers.stats(user), await readers.verify(user)
                assert (stats.state, found.state) == (FEED_STATE_WARM, FEED_STATE_WARM), user
                assert not found.differences, (user, found)
                pulled = self.celebrities.intersection(self.data.followees.get(user, ()))
                length = self.lengths[user]
                pushed = length - sum(len(self.data.published[one]) for one in pulled)
                assert stats.pulled_count == len(pulled)
                assert found.compared_count == stats.entry_count
                assert min(pushed, cap) <= stats.entry_count <= min(length, most), (user, stats)
                if stats.floor:
                    assert stats.entry_count < length, (user, stats)
                else:
                    assert stats.entry_count >= pushed, (user, stats)

            await for_each(users, one)

    async def check_audiences(self) -> None:
        """Compares the followers of those who have the most."""
        data = self.data
        largest = sorted(data.followers, key=lambda one: -len(data.followers[one]))[:20]
        assert len(data.followers[largest[0]]) == 23_737
        async with self.serving.readers() as readers:
            for user in largest:
                found = await readers.followers(user)
                assert len(found) == len(set(found))
                assert set(found) == data.followers[user]
                counts = len(data.followers[user]), len(data.sources(user)) - 1
                assert await readers.counts(user) == counts


@pytest.fixture
def world(serving: Serving, higgs_small: Path) -> World:
    return World(serving, higgs_small)


@on(limits=NONE_ARE_PULLED)
async def test_feeds_that_were_warm(world: World) -> None:
    await warm(world, pulled=0)


@on(limits=SOME_ARE_PULLED)
async def test_the_same_feeds_when_some_are_pulled(world: World) -> None:
    assert len(world.celebrities) == 13
    await warm(world, pulled=MORE_PULLED)


async def warm(world: World, *, pulled: int) -> None:
    """All feeds are warm when the activities come, and then everybody's is read."""
    data = world.data
    named = {event.actor for event in data.events}.union(data.followees, data.followers)
    assert world.load(warm=True) == report(
        deliveries=DELIVERIES - pulled, pulled=pulled, warmed=len(named)
    )
    async with world.serving.readers() as readers:
        await readers.settled()
    await world.verify(named.intersection(world.sample))
    await world.check_audiences()
    check = await world.check(world.users)
    assert (check.items, check.activities) == (DELIVERIES + ACTIVITIES, ACTIVITIES)

    again = world.load_again()

    # Now from the outboxes; all feeds are read so in a test below.
    world.serving.chill(world.users)
    await world.check(world.sample)
    assert again == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)


@on(limits=TRIMMED_FEEDS)
async def test_feeds_that_were_cold(world: World) -> None:
    assert world.load() == report(skipped_cold=DELIVERIES - PULLED, pulled=PULLED)
    check = await world.check(world.users)
    assert (check.items, check.activities) == (DELIVERIES + ACTIVITIES, ACTIVITIES)
    await world.verify(world.sample)

    again = world.load_again()
    await world.check(world.sample)
    assert again == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)


@on(kind="redis7")
async def test_a_sample_on_redis7(world: World) -> None:
    await sample(world)


@on(limits=TRIMMED_OUTBOXES)
async def test_retention(world: World) -> None:
    """Of the feeds that lack something then, half are warm when the activities come."""
    activities, edges = world.files
    assert world.serving.load("higgs", edges).report == report(activities=0)
    cap = world.serving.limits.feed_cap
    # Those of all others are as they were above; a sample has to do.
    users = sorted(user for user in world.users if world.lengths[user] > cap)
    users += sorted(set(world.sample).difference(users))
    warm = users[::2]
    async with world.serving.readers() as readers:
        await for_each(warm, readers.feed)

    found = world.serving.load("higgs", activities).report
    followers = [world.data.followers.get(event.actor, set()) for event in world.data.events]
    pushed = [some for some in followers if len(some) < Limits().celebrity_threshold]
    cold = sum(len(some.difference(warm)) for some in pushed)
    delivered = found["deliveries"]  # not to warm feeds that were trimmed above it already
    assert found == report(follows=0, skipped_cold=cold, deliveries=delivered, pulled=PULLED)
    assert 0 < delivered <= DELIVERIES - PULLED - cold
    await world.verify(warm)
    check = await world.check(users)
    assert check.items < sum(world.lengths[user] for user in users)
    assert len(check.floors) > 10
    async with world.serving.readers() as readers:
        for floor in set(check.floors.values()):
            assert (await readers.refusal_to_get(floor)).reason == "ACTIVITY_NOT_FOUND"

    again = world.load_again()
    await world.check(world.sample)
    outbox_cap = world.serving.limits.outbox_cap
    kept = sum(min(outbox_cap, len(numbers)) for numbers in world.data.published.values())
    assert (again["activities"], again["duplicates"]) == (0, FOLLOWS + kept)
    assert again["refused"] == {"EXTERNAL_ID_EXPIRED": ACTIVITIES - kept}
    assert again["deliveries"] == 0


@on(kind="cluster")
async def test_a_sample_on_a_cluster(world: World) -> None:
    await sample(world)


async def sample(world: World) -> None:
    """Each feed is read when it is cold, and then when it is warm."""
    assert world.load() == report(skipped_cold=DELIVERIES - PULLED, pulled=PULLED)
    await world.check(world.sample)
    await world.verify(world.sample[:200])
    await world.check(world.sample)
