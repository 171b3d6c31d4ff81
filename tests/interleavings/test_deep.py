"""Deep pages that other operations interrupt between any two store calls, and the reverse.

The world: bob follows alice, ann and erin. Alice published more activities than bob's feed keeps,
dave a few. Bob's feed is warm; its deep segment exists, or does not exist yet.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from feedsvc.core import deep
from feedsvc.core.edges import NewEdge
from feedsvc.core.pages import Cursor
from tests.interleavings.exploring import check_log
from tests.interleavings.operations import (
    WorldOperation,
    delete,
    expire,
    follow,
    follow_again,
    publish_and_push,
    publish_own,
    pull,
    push,
    push_again,
    rebuild,
    refollow,
    unfollow,
    work,
)
from tests.interleavings.scheduler import order, run
from tests.interleavings.world import LIMITS, World

DEEP = replace(LIMITS, feed_slack=0)
#: Activities of alice before the test: six more than bob's feed keeps.
ALICE_COUNT = 16
REMOVING = {unfollow, refollow, delete}


@dataclass
class DeepWorld(World):
    """A world in which bob's feed was trimmed.

    `reset(warm=True)` makes it with a deep segment, `reset(warm=False)` without.
    """

    removing: bool = False
    """True if an operation removes activities from the feed during the read."""
    following: bool = False
    """True if bob follows dave during the read."""

    async def _make(self, *, warm: bool) -> None:
        for number, name in enumerate(["d1", "d2"]):
            await self.publish(name, "dave", 1_500 + 1_000 * number)
        for number in range(ALICE_COUNT):
            await self.publish(f"a{number + 1}", "alice", 1_000 * number)
        for followee in ("alice", "ann", "erin"):
            await self.engine.edges.follow([NewEdge("bob", followee)])
        await self.engine.edges.follow([NewEdge("ann", "alice")])
        await self.engine.start_log("bob")
        if warm:
            await read_deep(self)
            assert self.line.redis.exists(f"{self.store.tags[0]}F:bob")

    @property
    def first_feed(self) -> set[int]:
        return {self.activity_ids[f"a{number + 1}"] for number in range(ALICE_COUNT)}


async def read_deep(world: World) -> object:
    """Read all below the stored feed; check that no activity of the first feed is missing."""
    assert isinstance(world, DeepWorld)
    cursor_id = world.activity_ids["a6"]
    expected = {activity_id for activity_id in world.first_feed if activity_id < cursor_id}
    page = await world.engine.feeds.page("bob", Cursor(older=True, id=cursor_id), 30)
    read_ids = [activity_id for activity_id, _ in page.items]
    assert read_ids == sorted(set(read_ids), reverse=True)
    assert world.removing or expected <= set(read_ids), "the page lacks an activity"
    dave_ids = {world.activity_ids["d1"], world.activity_ids["d2"]}
    assert not dave_ids & set(read_ids) or world.following
    return None


async def read_up(world: World) -> object:
    """Read from far below towards newer ids."""
    assert isinstance(world, DeepWorld)
    cursor_id = world.activity_ids["a3"]
    expected = {activity_id for activity_id in world.first_feed if activity_id > cursor_id}
    page = await world.engine.feeds.page("bob", Cursor(older=False, id=cursor_id), 30)
    read_ids = [activity_id for activity_id, _ in page.items]
    assert read_ids == sorted(set(read_ids), reverse=True)
    assert world.removing or expected <= set(read_ids)
    return None


async def publish_late(world: World) -> object:
    return await world.publish("a0", "alice", 2_500)


async def publish_late_own(world: World) -> object:
    return await world.publish("b0", "bob", 2_600)


async def publish_late_to_others(world: World) -> object:
    return await world.publish("c0", "carol", 2_700, ("ann", "erin"))


async def publish_twice(world: World) -> object:
    """Publish two activities, each of which trims the feed."""
    await world.publish("a17", "alice", 30_000)
    return await world.publish("a18", "alice", 31_000)


async def check(world: World, case: str) -> None:
    """Check that at rest the feed, read twice from its top to its end, equals the query."""
    await world.at_rest()
    world.truth.read()
    expected = world.truth.feed("bob")
    for _ in range(2):
        walked: list[int] = []
        cursor: Cursor | None = Cursor()
        while cursor is not None:
            page = await world.engine.feeds.page("bob", cursor, 7)
            walked += [activity_id for activity_id, _ in page.items]
            cursor = None if page.older is None else Cursor(older=True, id=page.older)
        assert walked == expected, case
    assert not (await world.engine.feeds.verify("bob")).differences, case
    await check_log(world, case, set(expected))


async def interrupt(
    world: DeepWorld,
    reading: WorldOperation,
    other: WorldOperation,
    prepare: WorldOperation | None = None,
) -> int:
    """Interrupt each operation, between any two of its calls, by all of the other operation.

    Return the number of interleavings.
    """
    tried = 0
    for warm in (True, False):
        for interrupted in (0, 1):
            for calls_before in range(40):
                await world.reset(warm=warm, prepare=prepare)
                choices = [interrupted] * calls_before + [1 - interrupted] * 60
                steps, results = await run(
                    world.store, [lambda: reading(world), lambda: other(world)], choices
                )
                case = f"{reading.__name__}, {other.__name__}, {warm}: {order(steps)}"
                for result in results:
                    if isinstance(result, BaseException):
                        raise AssertionError(case) from result  # noqa: TRY004
                await check(world, case)
                tried += 1
                # The operation ended before the interruption.
                if len(steps) < calls_before or all(
                    len(step.ready) == 1 for step in steps[calls_before:]
                ):
                    break
    return tried


OTHERS: list[WorldOperation] = [
    *(publish_late, publish_late_own, publish_late_to_others, publish_twice, publish_own),
    *(unfollow, refollow, follow, follow_again, delete, expire, rebuild, read_deep, read_up),
    *(push_again, work, pull),
]


@pytest_asyncio.fixture
async def world(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeepWorld]:
    monkeypatch.setattr(deep, "FEW_EDGES", 0)
    monkeypatch.setattr(deep, "LEFT_OUT", 0)
    async with DeepWorld.on(store_url, DEEP) as world:
        yield world


@pytest.mark.parametrize("other", OTHERS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("reading", [read_deep, read_up], ids=lambda operation: operation.__name__)
async def test_deep_read_is_right_beside_any_operation(
    world: DeepWorld, reading: WorldOperation, other: WorldOperation
) -> None:
    world.removing, world.following = other in REMOVING, other is follow
    assert await interrupt(world, reading, other) > 2


@pytest.mark.parametrize(
    "other", [push, publish_and_push], ids=lambda operation: operation.__name__
)
async def test_deep_read_is_right_while_a_celebrity_flips_back(
    world: DeepWorld, other: WorldOperation
) -> None:
    assert await interrupt(world, read_deep, other, prepare=pull) > 2


@pytest.mark.parametrize(
    "others",
    [
        (publish_late, unfollow),
        (publish_late, expire),
        (follow, publish_late),
        (pull, publish_late),
    ],
    ids=lambda operations: "+".join(operation.__name__ for operation in operations),
)
async def test_deep_read_is_right_beside_two_operations_in_a_row(
    world: DeepWorld, others: tuple[WorldOperation, ...]
) -> None:
    world.removing, world.following = bool(REMOVING & set(others)), follow in others

    async def run_in_a_row(world: World) -> object:
        for operation in others:
            await operation(world)
        return None

    assert await interrupt(world, read_deep, run_in_a_row) > 2


async def test_segment_of_a_process_that_died_while_building_is_never_read(
    world: DeepWorld,
) -> None:
    for calls in range(20):
        await world.reset(warm=False)
        _, results = await run(world.store, [lambda: read_deep(world)], [], crash=(0, calls))
        await publish_late(world)
        await check(world, f"dies after {calls} calls")
        if results:
            return
    raise AssertionError("the operation never ran to its end")
