"""An hour of GitHub, imported by the real importer: each event goes to two outboxes.

7,702 events of 3,648 actors in 4,113 repositories, each published `to` its repository. The files
have no follows: the tests make them up.
"""

from collections import Counter
from pathlib import Path

import pytest
from activityfeed.v1.activity_pb2 import AUDIENCE_FOLLOWERS, Activity, Ref

from feedsvc.config import Limits
from tests.data.checking import Check
from tests.data.oracle import DataSet, Event, Oracle, gharchive
from tests.data.serving import Imported, Serving, for_each, on
from tests.serving import at_ms

pytestmark = [pytest.mark.data, pytest.mark.timeout(300)]

EVENTS, ACTORS, REPOS = 7_702, 3_648, 4_113
#: Made-up users, beside the actors and the repositories.
FANS = [f"fan:{number:03}" for number in range(300)]
BUSIEST = 5
#: Limits that trim the outboxes of about 40 actors and 60 repositories.
TRIMMED = Limits(feed_cap=10, feed_slack=2, outbox_cap=12)


def expected(event: Event) -> Activity:
    (repo,) = event.to
    activity = Activity(
        external_id=event.name,
        actor=event.actor,
        verb=event.verb,
        object=Ref(id=event.object_id),
        target=Ref(id=repo, type="Repository", name=repo.removeprefix("repo:")),
        to=[repo],
        audience=AUDIENCE_FOLLOWERS,
        publish_time=at_ms(event.ms),
    )
    activity.extra.update(event.extra)
    return activity


def follows(data: DataSet) -> list[tuple[str, str]]:
    """Return the same made-up edges each time.

    Actors follow the repositories of their events. Fans follow the busiest repositories. For each
    of 24 events a fan also follows the actor, the repository, or both.
    """
    busiest = [repo for repo, _ in Counter(event.to[0] for event in data.events).most_common(5)]
    edges = {(event.actor, event.to[0]): None for event in data.events}
    for number, fan in enumerate(FANS):
        edges |= {(fan, repo): None for repo in busiest}
        for step in range(24):
            event = data.events[(number * 7919 + step * 331) % len(data.events)]
            followees = ((event.actor,), event.to, event.routes)[step % 3]
            edges |= {(fan, followee): None for followee in followees}
    return list(edges)


class World:
    """The data, the servers that import it, and the made-up follows."""

    def __init__(self, serving: Serving, file: Path) -> None:
        self.serving = serving
        self.file = file
        self.data = gharchive(file)
        self.edges = follows(self.data)
        self.actors = sorted({event.actor for event in self.data.events})
        self.repos = sorted({event.to[0] for event in self.data.events})
        self.followers = [*FANS, *self.actors]
        assert len(self.data.events) == EVENTS
        assert (len(self.actors), len(self.repos)) == (ACTORS, REPOS)

    def load(self) -> Imported:
        imported = self.serving.load("gharchive", self.file)
        assert imported.complaints == ""
        assert (imported["malformed"], imported["refused"]) == (0, {})
        return imported

    async def follow(self) -> None:
        async with self.serving.readers() as readers:
            await readers.follow_all(self.edges)
        self.data.follow(self.edges)

    async def warm(self) -> None:
        """Read the feeds of all followers, of later followers too."""
        async with self.serving.readers() as readers:
            await for_each(self.followers, readers.feed)

    async def check(self, users: list[str] | None = None) -> Check:
        """Compare the feeds of these users, by default of all followers."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.feeds(readers, users or self.followers)
        check.done()
        return check

    async def check_outboxes(self, *, own_only: bool) -> Check:
        """Compare all outboxes; with `own_only` their entities' own activities in them."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.outboxes(readers, [*self.actors, *self.repos], own_only=own_only)
        check.done()
        return check


@pytest.fixture
def world(serving: Serving, github_hour: Path) -> World:
    return World(serving, github_hour)


async def test_cold_feeds_are_exact_when_follows_come_before_events(world: World) -> None:
    await world.follow()
    imported = world.load()
    assert (imported["activities"], imported["deliveries"]) == (EVENTS, 0)
    check = await world.check([*world.followers, *world.repos])
    assert check.activities == EVENTS
    await world.check(FANS)


async def test_warm_feeds_are_exact_when_follows_come_before_events(world: World) -> None:
    await world.follow()
    await world.warm()
    imported = world.load()
    assert (imported["activities"], imported["skipped_cold"]) == (EVENTS, 0)
    assert imported["deliveries"] == world.data.delivery_count()
    await world.check()

    stored = world.serving.stored()
    repeated = world.load()
    counts = (repeated["duplicates"], repeated["activities"], repeated["deliveries"])
    assert counts == (EVENTS, 0, 0)
    assert world.serving.stored() == stored
    await world.check(FANS)


async def test_cold_feeds_are_exact_when_follows_come_after_events(world: World) -> None:
    imported = world.load()
    assert (imported["activities"], imported["deliveries"]) == (EVENTS, 0)
    assert imported["skipped_cold"] == 0
    check = await world.check_outboxes(own_only=False)
    assert check.items == 2 * EVENTS
    check = await world.check_outboxes(own_only=True)
    assert check.items == EVENTS
    await world.follow()
    await world.check()


async def test_warm_feeds_are_exact_when_follows_come_after_events(world: World) -> None:
    world.load()
    await world.check()
    await world.follow()
    await world.check()


@on(limits=TRIMMED)
async def test_cold_feeds_are_exact_above_trimmed_outboxes(world: World) -> None:
    await world.follow()
    world.load()
    await world.check_outboxes(own_only=False)
    check = await world.check()

    world.serving.wait_until_released()
    stored = world.serving.stored()
    repeated = world.serving.load("gharchive", world.file)
    world.serving.wait_until_released()
    assert world.serving.stored() == stored
    await world.check(FANS)
    kept_count = len(set[int]().union(*check.oracle.kept.values()))
    assert (repeated["duplicates"], repeated["activities"]) == (kept_count, 0)
    assert repeated["refused"] == {"EXTERNAL_ID_EXPIRED": EVENTS - kept_count}
    assert repeated["deliveries"] == 0


@on(limits=TRIMMED)
async def test_warm_feeds_are_exact_above_trimmed_outboxes(world: World) -> None:
    await world.follow()
    await world.warm()
    imported = world.load()
    await world.check()
    assert 0 < imported["deliveries"] <= world.data.delivery_count()
