"""Runs operations in each of their interleavings and checks the world after each."""

import pytest

from feedsvc.core.pages import Cursor, End, Page
from tests.interleavings.operations import (
    WorldOperation,
    delete,
    follow,
    refollow,
    unfollow,
)
from tests.interleavings.scheduler import next_choices, order, run
from tests.interleavings.world import PEOPLE, World

#: Most times that operations of an interleaving interrupt each other.
INTERRUPTIONS = 2


async def explore(
    world: World,
    operations: tuple[WorldOperation, ...],
    prepare: WorldOperation | None = None,
    interruptions: int = INTERRUPTIONS,
) -> int:
    """Try all interleavings, each after `prepare`; return their number."""
    tried = 0
    for warm in (True, False):
        choices: list[int] | None = []
        while choices is not None:
            feed_before = set(await world.reset(warm=warm, prepare=prepare))
            steps, results = await run(
                world.store,
                [lambda operation=operation: operation(world) for operation in operations],
                choices,
            )
            names = [operation.__name__ for operation in operations]
            case = f"{names} warm={warm} {order(steps)}"
            for result in results:
                if isinstance(result, BaseException):
                    pytest.fail(f"{case}: {result!r}")
                if isinstance(result, Page):
                    check_read(world, operations, result, feed_before, case)
            await check(world, case)
            choices = next_choices(steps, interruptions)
            tried += 1
    return tried


async def check(world: World, case: str) -> None:
    """Check that at rest the feed equals the query, in whatever state the cache was left."""
    await world.at_rest()
    world.truth.read()
    world.truth.check_edges(PEOPLE)
    expected = world.truth.feed("bob")
    for ordinal in ("first", "second"):
        walked: list[int] = []
        cursor = Cursor()
        while True:
            page = await world.engine.feeds.page("bob", cursor, 2)
            walked += [activity_id for activity_id, _ in page.items]
            if page.older is None:
                break
            cursor = Cursor(older=True, id=page.older)
        assert page.end is End.FEED, case
        assert walked == expected, f"{case}: {ordinal} read"
    verified = await world.engine.feeds.verify("bob")
    assert not verified.differences, case
    await check_log(world, case, set(expected))


async def check_log(world: World, case: str, expected: set[int]) -> None:
    """Check that the log has each event once, and an event for all that came or went."""
    events = [(entry.kind, entry.subject) for entry in await world.log()]
    about_activities = [event for event in events if event[0] in ("added", "removed")]
    assert len(about_activities) == len(set(about_activities)), f"{case}: repeated: {events}"
    if any(kind in ("followed", "unfollowed") for kind, _ in events):
        return  # the client reads the feed again
    followed_feed = world.first_feed | {int(subject) for kind, subject in events if kind == "added"}
    followed_feed -= {int(subject) for kind, subject in events if kind == "removed"}
    assert followed_feed == expected, f"{case}: events {events}"


def check_read(
    world: World,
    operations: tuple[WorldOperation, ...],
    page: Page,
    feed_before: set[int],
    case: str,
) -> None:
    """Check a page that was read while other operations ran.

    The page holds all that no operation removes, and nothing that never was in the feed.
    """
    read_ids = {activity_id for activity_id, _ in page.items}
    removing = {unfollow, refollow, delete} & set(operations)
    assert removing or feed_before <= read_ids, f"{case}: the page lacks an activity"
    assert read_ids <= set(world.activity_ids.values()), case
    if follow not in operations:
        strange = {
            activity_id for name, activity_id in world.activity_ids.items() if name[0] == "d"
        }
        assert not read_ids & strange, f"{case}: the page shows a stranger's activity"
