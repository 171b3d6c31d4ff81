"""An hour of GitHub, imported by the real importer: each event goes to two outboxes.

7,702 events of 3,648 actors in 4,113 repositories, published `to` the repository. Who follows whom
is made up here: the files do not say.
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
#: Outboxes are trimmed: those of 40 actors and 60 repositories or so.
TRIMMED = Limits(feed_cap=10, feed_slack=2, outbox_cap=12)


def expected(event: Event) -> Activity:
    (repo,) = event.to
    activity = Activity(
        external_id=event.name,
        actor=event.actor,
        verb=event.verb,
        object=Ref(id=event.thing),
        target=Ref(id=repo, type="Repository", name=repo.removeprefix("repo:")),
        to=[repo],
        audience=AUDIENCE_FOLLOWERS,
        publish_time=at_ms(event.ms),
    )
    activity.extra.update(event.extra)
    return activity


def follows(data: DataSet) -> list[tuple[str, str]]:
    """Who follows whom, the same each time.

    Actors follow the repositories that they touched. Fans follow the busiest repositories, and of
    some events only the actor, of others only the repository, of others both.
    """
    busiest = [repo for repo, _ in Counter(event.to[0] for event in data.events).most_common(5)]
    edges = {(event.actor, event.to[0]): None for event in data.events}
    for number, fan in enumerate(FANS):
        edges |= {(fan, repo): None for repo in busiest}
        for step in range(24):
            event = data.events[(number * 7919 + step * 331) % len(data.events)]
            both = ((event.actor,), event.to, event.routes)[step % 3]
            edges |= {(fan, entity): None for entity in both}
    return list(edges)


class World:
    """What a test looks at."""

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
        """Reads the feeds of all that follow anybody, or will."""
        async with self.serving.readers() as readers:
            await for_each(self.followers, readers.feed)

    async def check(self, users: list[str] | None = None) -> Check:
        """Compares the feeds of these users, or of all that follow anybody."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.feeds(readers, users or self.followers)
        check.done()
        return check

    async def check_outboxes(self, *, own_only: bool) -> Check:
        """Compares all outboxes; with `own_only` what in them the entity did itself."""
        check = Check(Oracle(self.data, self.serving.limits.outbox_cap), expected)
        async with self.serving.readers() as readers:
            await check.settle(readers, check.oracle.ties)
            await check.outboxes(readers, [*self.actors, *self.repos], own_only=own_only)
        check.done()
        return check


@pytest.fixture
def world(serving: Serving, github_hour: Path) -> World:
    return World(serving, github_hour)


async def test_follows_come_first(world: World) -> None:
    await world.follow()
    imported = world.load()
    assert (imported["activities"], imported["deliveries"]) == (EVENTS, 0)
    check = await world.check([*world.followers, *world.repos])
    assert check.activities == EVENTS
    await world.check(FANS)


async def test_follows_come_first_and_feeds_are_warm(world: World) -> None:
    await world.follow()
    await world.warm()
    imported = world.load()
    assert (imported["activities"], imported["skipped_cold"]) == (EVENTS, 0)
    assert imported["deliveries"] == world.data.reached()
    await world.check()

    before = world.serving.stored()
    again = world.load()
    assert (again["duplicates"], again["activities"], again["deliveries"]) == (EVENTS, 0, 0)
    assert world.serving.stored() == before
    await world.check(FANS)


async def test_follows_come_last(world: World) -> None:
    imported = world.load()
    assert (imported["activities"], imported["deliveries"]) == (EVENTS, 0)
    assert imported["skipped_cold"] == 0
    check = await world.check_outboxes(own_only=False)
    assert check.items == 2 * EVENTS
    check = await world.check_outboxes(own_only=True)
    assert check.items == EVENTS
    await world.follow()
    await world.check()


async def test_follows_come_last_and_feeds_are_warm(world: World) -> None:
    world.load()
    await world.check()
    await world.follow()
    await world.check()


@on(limits=TRIMMED)
async def test_retention_of_cold_feeds(world: World) -> None:
    await world.follow()
    world.load()
    await world.check_outboxes(own_only=False)
    check = await world.check()

    world.serving.wait_until_let_go()
    before = world.serving.stored()
    again = world.serving.load("gharchive", world.file)
    world.serving.wait_until_let_go()
    assert world.serving.stored() == before
    await world.check(FANS)
    held = len(set[int]().union(*check.oracle.kept.values()))
    assert (again["duplicates"], again["activities"]) == (held, 0)
    assert again["refused"] == {"EXTERNAL_ID_EXPIRED": EVENTS - held}
    assert again["deliveries"] == 0


@on(limits=TRIMMED)
async def test_retention_of_warm_feeds(world: World) -> None:
    await world.follow()
    await world.warm()
    imported = world.load()
    await world.check()
    assert 0 < imported["deliveries"] <= world.data.reached()
