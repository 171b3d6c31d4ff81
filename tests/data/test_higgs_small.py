"""Two days of Twitter, imported by the real importer: every feed is exactly what the files say.

65,560 users, 95,008 follows, 20,000 activities. To import them and to read every feed takes about
a minute, so each test checks several things.
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
#: Entries that the activities add to the feeds of their actors' followers.
DELIVERIES = 235_917
#: Entries of the activity whose actor has over 10,000 followers: the followers pull them.
PULLED = 23_737
#: Entries that are pulled if an entity is a celebrity from 1,000 followers on.
MORE_PULLED = 79_418
#: Users in a sample.
SAMPLE = 2_000

#: No entity is a celebrity, or 13 are.
NO_CELEBRITIES = Limits(celebrity_threshold=0)
CELEBRITIES = Limits(celebrity_threshold=1_000)
#: Trims the warm feeds of 317 users and no outbox: no user has more than 55 activities.
TRIMMED_FEEDS = Limits(feed_cap=50, feed_slack=10, outbox_cap=60)
#: Trims the outboxes of 33 actors too.
TRIMMED_OUTBOXES = Limits(feed_cap=10, feed_slack=2, outbox_cap=12)


def expected(event: Event) -> Activity:
    return Activity(
        actor=event.actor,
        verb=event.verb,
        object=Ref(id=event.object_id),
        audience=AUDIENCE_FOLLOWERS,
        publish_time=at_ms(event.ms),
    )


def report(**changes: object) -> dict[str, object]:
    """Return the expected report of an import of all files, with these changes."""
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
        "rows": FOLLOWS + ACTIVITIES,
        "rejects": [],
        "damaged_files": {},
        "interrupted": False,
        "error": "",
        "dry_run": False,
        "seconds": pytest.approx(100, abs=100),
    } | changes


class World:
    """The data, the servers that import it, and what the tests expect of its users."""

    def __init__(self, serving: Serving, folder: Path) -> None:
        self.serving = serving
        self.data = higgs(folder)
        self.files = [folder / name for name in FILES]
        self.users = self._users()
        uncut = Oracle(self.data, cap=ACTIVITIES)
        self.lengths = {user: len(uncut.feed(user)) for user in self.users}
        """By user, the length of the feed if nothing is trimmed."""
        threshold = serving.limits.celebrity_threshold
        self.celebrities = {
            entity
            for entity, followers in self.data.followers.items()
            if 0 < threshold <= len(followers)
        }
        """Followers pull their activities. A warm feed may hold those from before its build."""
        longest = sorted(self.users, key=lambda user: -self.lengths[user])[: SAMPLE // 4]
        others = sorted(set(self.users).difference(longest))
        self.sample = longest + random.Random(0).sample(others, SAMPLE - len(longest))
        """The users with the longest feeds, and others at random."""

    def _users(self) -> list[str]:
        """Return all users in the files."""
        data = self.data
        names = (name for event in data.events for name in (event.actor, event.object_id))
        users = {*names, *data.followees, *data.followers}
        assert (len(users), data.follows, len(data.events)) == (USERS, FOLLOWS, ACTIVITIES)
        return sorted(users)

    def load(self, *, warm: bool = False) -> dict[str, object]:
        return self.serving.load("higgs", *self.files, warm=warm).report

    def load_again(self) -> dict[str, object]:
        """Import again, which must change no key of the store."""
        before = self.serving.stored()
        repeated = self.load()
        after = self.serving.stored()
        names = before.keys() | after.keys()
        differing = sorted(name for name in names if before.get(name) != after.get(name))
        assert not differing, f"{len(before)} keys became {len(after)}: {differing[:10]}"
        return repeated

    async def check(self, users: Iterable[str]) -> Check:
        """Compare the feeds of users."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.feeds(readers, list(users))
        check.done()
        return check

    async def verify(self, users: Iterable[str]) -> None:
        """Let the service compare warm feeds with the outboxes behind them."""
        cap = self.serving.limits.feed_cap
        max_length = cap + self.serving.limits.feed_slack
        async with self.serving.readers() as readers:

            async def verify_feed(user: str) -> None:
                stats, verified = await readers.stats(user), await readers.verify(user)
                assert (stats.state, verified.state) == (FEED_STATE_WARM, FEED_STATE_WARM), user
                assert not verified.differences, (user, verified)
                pulled = self.celebrities.intersection(self.data.followees.get(user, ()))
                length = self.lengths[user]
                pushed = length - sum(len(self.data.published[followee]) for followee in pulled)
                assert stats.pulled_count == len(pulled)
                assert verified.compared_count == stats.entry_count
                assert min(pushed, cap) <= stats.entry_count <= min(length, max_length), (
                    user,
                    stats,
                )
                if stats.floor:
                    assert stats.entry_count < length, (user, stats)
                else:
                    assert stats.entry_count >= pushed, (user, stats)

            await for_each(users, verify_feed)

    async def check_audiences(self) -> None:
        """Compare the followers of the 20 users who have the most."""
        data = self.data
        largest = sorted(data.followers, key=lambda user: -len(data.followers[user]))[:20]
        assert len(data.followers[largest[0]]) == 23_737
        async with self.serving.readers() as readers:
            for user in largest:
                followers = await readers.followers(user)
                assert len(followers) == len(set(followers))
                assert set(followers) == data.followers[user]
                counts = len(data.followers[user]), len(data.sources(user)) - 1
                assert await readers.counts(user) == counts


@pytest.fixture
def world(serving: Serving, higgs_small: Path) -> World:
    return World(serving, higgs_small)


@on(limits=NO_CELEBRITIES)
async def test_warm_feeds_are_exact_when_all_are_pushed(world: World) -> None:
    await check_warm_feeds(world, pulled=0)


@on(limits=CELEBRITIES)
async def test_warm_feeds_are_exact_when_celebrities_are_pulled(world: World) -> None:
    assert len(world.celebrities) == 13
    await check_warm_feeds(world, pulled=MORE_PULLED)


async def check_warm_feeds(world: World, *, pulled: int) -> None:
    """Import activities into warm feeds, and compare the feeds of all users."""
    data = world.data
    users = {event.actor for event in data.events}.union(data.followees, data.followers)
    assert world.load(warm=True) == report(
        deliveries=DELIVERIES - pulled, pulled=pulled, warmed=len(users)
    )
    async with world.serving.readers() as readers:
        await readers.wait_until_at_rest()
    await world.verify(users.intersection(world.sample))
    await world.check_audiences()
    check = await world.check(world.users)
    assert (check.items, check.activities) == (DELIVERIES + ACTIVITIES, ACTIVITIES)

    repeated = world.load_again()

    # The same feeds from the outboxes; another test reads all feeds like this.
    world.serving.chill(world.users)
    await world.check(world.sample)
    assert repeated == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)


@on(limits=TRIMMED_FEEDS)
async def test_cold_feeds_are_exact(world: World) -> None:
    assert world.load() == report(skipped_cold=DELIVERIES - PULLED, pulled=PULLED)
    check = await world.check(world.users)
    assert (check.items, check.activities) == (DELIVERIES + ACTIVITIES, ACTIVITIES)
    await world.verify(world.sample)

    repeated = world.load_again()
    await world.check(world.sample)
    assert repeated == report(follows=0, activities=0, duplicates=FOLLOWS + ACTIVITIES)


@on(kind="redis7")
async def test_sample_of_feeds_is_exact_on_redis7(world: World) -> None:
    await check_sample(world)


@on(limits=TRIMMED_OUTBOXES)
async def test_feeds_are_exact_above_trimmed_outboxes(world: World) -> None:
    """Half of the feeds that will be incomplete are warm before the import of the activities."""
    activities, edges = world.files
    assert world.serving.load("higgs", edges).report == report(activities=0, rows=FOLLOWS)
    cap = world.serving.limits.feed_cap
    # The feeds of all other users are complete, as in the tests above; a sample is enough.
    users = sorted(user for user in world.users if world.lengths[user] > cap)
    users += sorted(set(world.sample).difference(users))
    warm = users[::2]
    async with world.serving.readers() as readers:
        await for_each(warm, readers.feed)

    imported = world.serving.load("higgs", activities).report
    audiences = [world.data.followers.get(event.actor, set()) for event in world.data.events]
    pushed = [audience for audience in audiences if len(audience) < Limits().celebrity_threshold]
    cold = sum(len(audience.difference(warm)) for audience in pushed)
    # A warm feed that is trimmed above an activity does not take it.
    delivered = imported["deliveries"]
    assert imported == report(
        follows=0, rows=ACTIVITIES, skipped_cold=cold, deliveries=delivered, pulled=PULLED
    )
    assert 0 < delivered <= DELIVERIES - PULLED - cold
    await world.verify(warm)
    check = await world.check(users)
    assert check.items < sum(world.lengths[user] for user in users)
    assert len(check.floors) > 10
    async with world.serving.readers() as readers:
        for floor in set(check.floors.values()):
            assert (await readers.refusal_to_get(floor)).reason == "ACTIVITY_NOT_FOUND"

    repeated = world.load_again()
    await world.check(world.sample)
    outbox_cap = world.serving.limits.outbox_cap
    kept = sum(min(outbox_cap, len(numbers)) for numbers in world.data.published.values())
    assert (repeated["activities"], repeated["duplicates"]) == (0, FOLLOWS + kept)
    assert repeated["refused"] == {"EXTERNAL_ID_EXPIRED": ACTIVITIES - kept}
    assert repeated["deliveries"] == 0


@on(kind="cluster")
async def test_sample_of_feeds_is_exact_on_a_cluster(world: World) -> None:
    await check_sample(world)


async def check_sample(world: World) -> None:
    """Read each feed of the sample when it is cold, and again when it is warm."""
    assert world.load() == report(skipped_cold=DELIVERIES - PULLED, pulled=PULLED)
    await world.check(world.sample)
    await world.verify(world.sample[:200])
    await world.check(world.sample)
