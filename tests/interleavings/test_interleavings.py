"""Every pair of operations, in every order of store calls: afterwards the feed equals the query.

The world is set up anew for each interleaving. Before a check, workers do the jobs that remain
when the operations have ended or their process has died.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest
import pytest_asyncio

from feedsvc.core.pages import Cursor
from tests.interleavings.exploring import INTERRUPTIONS, check, explore
from tests.interleavings.operations import (
    WorldOperation,
    delete,
    expire,
    follow,
    follow_again,
    other_unfollows,
    publish_and_push,
    publish_by_followee,
    publish_by_stranger,
    publish_old,
    publish_own,
    publish_to_both,
    pull,
    pull_and_push,
    pull_stranger,
    push,
    push_again,
    push_and_pull,
    read,
    rebuild,
    refollow,
    replace_new_edge,
    start_log,
    unfollow,
    unfollow_new,
    work,
)
from tests.interleavings.scheduler import order, run
from tests.interleavings.world import LIMITS, PEOPLE, World


def _names(operations: tuple[WorldOperation, ...]) -> str:
    return "+".join(operation.__name__ for operation in operations)


OPERATIONS: list[WorldOperation] = [
    publish_by_followee,
    publish_by_stranger,
    publish_old,
    publish_own,
    publish_to_both,
    push_again,
    work,
    pull,
    pull_and_push,
    pull_stranger,
    rebuild,
    read,
    follow,
    follow_again,
    unfollow,
    refollow,
    unfollow_new,
    other_unfollows,
    delete,
    expire,
    start_log,
]
#: Operations with so many calls that pairs of them take minutes.
LONG = {publish_to_both, pull, pull_and_push, pull_stranger}
#: The quick pairs of the longest operation. The slow pairs share most of their steps.
QUICK_PAIRS = [
    (publish_by_followee, pull_and_push),
    (work, pull_and_push),
    (pull_and_push, unfollow),
]


def _is_slow(pair: tuple[WorldOperation, ...]) -> bool:
    return LONG.issuperset(pair) or (pull_and_push in pair and pair not in QUICK_PAIRS)


PAIRS = [
    pytest.param(pair, marks=[pytest.mark.slow] if _is_slow(pair) else [], id=_names(pair))
    for pair in combinations_with_replacement(OPERATIONS, 2)
]
TRIPLES = [
    (publish_by_followee, unfollow, expire),
    (publish_by_stranger, follow, expire),
    (publish_by_stranger, follow, unfollow_new),
    (publish_by_followee, delete, expire),
    (publish_old, unfollow, follow_again),
    (follow, unfollow_new, expire),
]
LONG_TRIPLES = [
    (publish_by_followee, rebuild, unfollow),
    (publish_by_stranger, rebuild, follow),
    (publish_by_followee, read, expire),
    (publish_by_stranger, follow, refollow),
    (rebuild, follow, expire),
    (rebuild, unfollow, expire),
]


@pytest_asyncio.fixture
async def world(store_url: str) -> AsyncIterator[World]:
    async with World.on(store_url, LIMITS) as world:
        yield world


@pytest_asyncio.fixture
async def inline_world(store_url: str) -> AsyncIterator[World]:
    """Make a world in which a publish delivers to all followers and leaves none to workers."""
    async with World.on(store_url, replace(LIMITS, push_chunk=8, inline_audience=8)) as world:
        yield world


@pytest.mark.parametrize("operations", PAIRS)
async def test_feed_is_right_after_any_two_operations(
    world: World, operations: tuple[WorldOperation, ...]
) -> None:
    assert await explore(world, operations) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "operations",
    [pair for pair in combinations_with_replacement(OPERATIONS, 2) if not _is_slow(pair)],
    ids=_names,
)
async def test_feed_is_right_after_any_two_operations_with_more_interruptions(
    world: World, operations: tuple[WorldOperation, ...]
) -> None:
    assert await explore(world, operations, interruptions=INTERRUPTIONS + 1) > 2


@pytest.mark.parametrize("operations", TRIPLES, ids=_names)
async def test_feed_is_right_after_three_operations(
    world: World, operations: tuple[WorldOperation, ...]
) -> None:
    assert await explore(world, operations) > 6


#: Operations that run against the flip of a celebrity back to PUSH.
BESIDE_FLIPS = [
    *(publish_by_followee, publish_to_both, rebuild, read, follow_again, refollow, unfollow),
    *(delete, expire, start_log, work),
]
#: The quick operations of these.
QUICK = {publish_by_followee, rebuild, read, refollow, expire}


@pytest.mark.parametrize(
    ("flipping", "other"),
    [
        pytest.param(
            flipping,
            other,
            marks=[] if flipping is push or other in QUICK else [pytest.mark.slow],
            id=_names((flipping, other)),
        )
        for flipping in (push, publish_and_push)
        for other in BESIDE_FLIPS
    ]
    + [
        pytest.param(
            push_and_pull, other, marks=[pytest.mark.slow], id=_names((push_and_pull, other))
        )
        for other in BESIDE_FLIPS
    ],
)
async def test_feed_is_right_while_a_celebrity_flips_back(
    world: World, flipping: WorldOperation, other: WorldOperation
) -> None:
    assert await explore(world, (flipping, other), prepare=pull) > 2


@pytest.mark.parametrize(
    "flipping",
    [push, publish_and_push, pytest.param(push_and_pull, marks=pytest.mark.slow)],
    ids=lambda operation: operation.__name__,
)
@pytest.mark.parametrize(
    "other",
    [publish_by_followee, publish_to_both, rebuild, read, refollow],
    ids=lambda operation: operation.__name__,
)
async def test_feed_is_right_while_a_celebrity_flips_back_and_delivers_inline(
    inline_world: World, flipping: WorldOperation, other: WorldOperation
) -> None:
    assert await explore(inline_world, (flipping, other), prepare=pull) > 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operations", LONG_TRIPLES, ids=_names)
async def test_feed_is_right_after_three_long_operations(
    world: World, operations: tuple[WorldOperation, ...]
) -> None:
    assert await explore(world, operations) > 6


async def test_older_edge_does_not_flip_a_newer_one(world: World) -> None:
    """Interrupt a follow anywhere by the end of its edge and a new edge; let it go on anywhere."""
    operations = [lambda: follow(world), lambda: replace_new_edge(world)]
    for calls_before in range(20):
        for calls_between in range(30):
            await world.reset(warm=True)
            choices = [0] * calls_before + [1] * calls_between + [0] * 20
            steps, _ = await run(world.store, operations, choices)
            await check(
                world,
                f"interrupted after {calls_before} calls by {calls_between} calls: {order(steps)}",
            )
            if len(steps) <= calls_before + calls_between:
                break
        # The follow had ended before the interruption: the scheduler had no choice.
        if calls_before and len(steps[calls_before - 1].ready) == 1:
            return
    raise AssertionError("the operation never ran to its end")


@pytest.mark.parametrize("survivor", [publish_by_followee, unfollow, read, follow, work])
@pytest.mark.parametrize(
    "victim",
    [
        *(publish_by_followee, publish_to_both, follow, refollow, rebuild, read, delete, start_log),
        *(work, pull, pull_and_push),
    ],
)
async def test_process_that_dies_between_any_two_calls_leaves_the_feed_right(
    world: World, victim: WorldOperation, survivor: WorldOperation
) -> None:
    """A read after the death of a process may be slower, but is never wrong."""
    for warm in (True, False):
        for calls in range(40):
            await world.reset(warm=warm)
            _, results = await run(
                world.store,
                [lambda: victim(world), lambda: survivor(world)],
                [0] * calls,
                crash=(0, calls),
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            case = f"{victim.__name__} dies after {calls} calls, then {survivor.__name__}"
            await world.at_rest()
            world.truth.read()
            world.truth.check_edges(PEOPLE)
            expected = world.truth.feed("bob")
            for _ in range(2):
                page = await world.engine.feeds.page("bob", Cursor(), 10)
                assert [activity_id for activity_id, _ in page.items] == expected, case
            if len(results) == 2:  # the victim ended before it was to die
                break
        else:
            raise AssertionError("the operation never ran to its end")


async def test_publish_that_dies_is_completed_by_its_retry(world: World) -> None:
    """A retry with the same external id completes what the dead process began."""
    for calls in range(1, 10):
        await world.reset(warm=True)
        _, results = await run(
            world.store, [lambda: publish_by_followee(world)], [], crash=(0, calls)
        )
        await publish_by_followee(world)
        await check(world, f"publish dies after {calls} calls")
        if results:
            return
    raise AssertionError("the operation never ran to its end")
