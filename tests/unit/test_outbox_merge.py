"""merge() against sorted(set(...)), on real outboxes."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedsvc.config import Limits
from feedsvc.core import ids, outbox
from feedsvc.core.outbox import Merged, Outboxes, Tally
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

#: Examples share one store: each begins with lists of its own.
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: Places: near to one another, so that outboxes share some and cursors hit them.
PLACES = st.integers(1, 60)
#: An outbox: how much of it was trimmed, and what it holds.
OUTBOX = st.tuples(st.just(0) | PLACES, st.lists(PLACES, max_size=25))
OUTBOXES = st.lists(OUTBOX, max_size=6)


def activity_id(place: int) -> int:
    return ids.make(1_700_000_000_000, place, 0)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.at(store_url, Limits())
    await opened.open()
    yield opened
    await opened.close()


async def fill(store: Store, outboxes: list[tuple[int, list[int]]]) -> dict[str, list[int]]:
    """Writes outboxes as they are stored; returns what each holds, its floor first."""
    await store.redis.flushall()
    held: dict[str, list[int]] = {}
    for number, (trimmed, places) in enumerate(outboxes):
        entity = f"entity {number}"
        floor = activity_id(trimmed) if trimmed else 0
        held[entity] = [floor, *sorted({activity_id(one) for one in places if one > trimmed})]
        if len(held[entity]) > 1 or trimmed:
            tag = store.tags[ids.shard_for(entity, store.limits.shards)]
            await store.call("RPUSH", f"{tag}o:{entity}", *held[entity])
        else:
            held[entity] = [0]
    return held


def expected(
    held: dict[str, list[int]], cursor: int | None, count: int, *, older: bool
) -> tuple[list[int], bool]:
    everything = {one for _, *some in held.values() for one in some}
    if older:
        beyond = sorted((one for one in everything if cursor is None or one < cursor), reverse=True)
    else:
        beyond = sorted(one for one in everything if cursor is not None and one > cursor)
    return beyond[:count], len(beyond) < count


@pytest.mark.every_store
@QUICK
@given(OUTBOXES, st.booleans(), st.none() | st.integers(0, 61), st.integers(1, 80))
async def test_merge_is_the_nearest_of_the_union(
    store: Store,
    outboxes: list[tuple[int, list[int]]],
    older: bool,
    place: int | None,
    count: int,
) -> None:
    held = await fill(store, outboxes)
    cursor = None if place is None and older else activity_id(place or 0)
    merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
    found, exhausted = expected(held, cursor, count, older=older)
    assert merged.ids == found
    assert merged.exhausted == exhausted
    floors = [floor for floor, *_ in held.values()]
    assert merged.floor == max(floors, default=0)


@QUICK
@given(OUTBOXES, st.booleans(), st.integers(1, 7))
async def test_walk_of_merges_finds_everything_once(
    store: Store,
    outboxes: list[tuple[int, list[int]]],
    older: bool,
    count: int,
) -> None:
    held = await fill(store, outboxes)
    found: list[int] = []
    cursor = None if older else 0
    merged = Merged([], exhausted=False, floor=0)
    while not merged.exhausted:
        merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
        found += merged.ids
        cursor = merged.ids[-1] if merged.ids else cursor
    assert found == sorted({one for _, *some in held.values() for one in some}, reverse=older)


@pytest.mark.every_store
@pytest.mark.parametrize("older", [True, False])
async def test_merge_of_many_outboxes(store: Store, *, older: bool) -> None:
    """More than one script call reads, most of them empty, one with all that is nearest."""
    outboxes = [(0, list(range(1, 1_000, 2)))]
    outboxes += [(0, [number]) for number in range(2, 400, 2)]
    outboxes += [(0, []) for _ in range(200)]
    held = await fill(store, outboxes)
    cursor = None if older else 0
    for count in (1, 100, 5_000):
        merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
        found, exhausted = expected(held, cursor, count, older=older)
        assert (merged.ids, merged.exhausted) == (found, exhausted)


async def test_merge_of_nothing(store: Store) -> None:
    for older in (True, False):
        merged = await Outboxes(store).merge([], older=older, cursor=None if older else 0, count=5)
        assert merged == Merged([], exhausted=True, floor=0)


async def test_read_that_fails_when_nobody_waits_any_more_is_not_told(store: Store) -> None:
    """Whoever asked has gone: it is no defect that nobody hears of it."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    read = loop.create_future()
    with patch.object(store, "call", return_value=read):
        reading = asyncio.create_task(
            Outboxes(store).merge(["a"], older=True, cursor=None, count=5)
        )
        for _ in range(5):
            await asyncio.sleep(0)
    reading.cancel()
    read.set_exception(StoreUnavailable("the store is not available"))
    with suppress(asyncio.CancelledError):
        await reading
    del read, reading
    for _ in range(5):
        await asyncio.sleep(0)
        gc.collect()
    assert not told


class Watched:
    """Script calls of a store: how many there were, and at most at once."""

    def __init__(self, store: Store) -> None:
        self._script = store.script
        self.calls = self.outboxes = self.now = self.most = 0

    async def script(self, name: str, shards: int, *arguments: Arg, cost: int = 0) -> Any:
        assert name == "outbox_read"
        some = (len(arguments) - 1) // 3
        assert some <= outbox.OUTBOXES_A_CALL
        assert sum(map(int, arguments[3::3])) <= outbox.IDS_A_CALL
        self.calls += 1
        self.outboxes += some
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._script(name, shards, *arguments, cost=cost)
        finally:
            self.now -= 1


async def test_wide_merge_asks_a_few_calls_at_a_time(store: Store) -> None:
    held = await fill(store, [(0, [number % 60 + 1]) for number in range(1_000)])
    watched = Watched(store)
    with patch.object(store, "script", watched.script):
        merged = await Outboxes(store).merge(held, older=True, cursor=None, count=100)
    assert merged.ids == expected(held, None, 100, older=True)[0]
    assert watched.outboxes == len(held)
    assert watched.most <= outbox.CALLS_A_MERGE


async def test_wide_merges_wait_for_one_another_in_turn(store: Store) -> None:
    names = [[f"{reader}:{number}" for number in range(400)] for reader in range(16)]
    watched, outboxes, ended = Watched(store), Outboxes(store), list[int]()

    async def merge(reader: int) -> None:
        await outboxes.merge(names[reader], older=True, cursor=None, count=100)
        ended.append(reader)

    with patch.object(store, "script", watched.script):
        await asyncio.gather(*map(merge, range(16)))
    assert watched.most <= outbox.WIDE_MERGES * outbox.CALLS_A_MERGE
    assert all(abs(place - reader) < outbox.WIDE_MERGES for place, reader in enumerate(ended))


async def test_merge_that_nobody_waits_for_stops_asking(store: Store) -> None:
    names = [f"entity {number}" for number in range(10_000)]
    watched = Watched(store)
    with patch.object(store, "script", watched.script):
        merging = asyncio.create_task(
            Outboxes(store).merge(names, older=True, cursor=None, count=100)
        )
        while not watched.calls:  # noqa: ASYNC110 (it is the next turn that matters)
            await asyncio.sleep(0)
        merging.cancel()
        with suppress(asyncio.CancelledError):
            await merging
        while watched.now:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert watched.calls <= 2 * outbox.CALLS_A_MERGE


async def test_names_are_told_from_their_shards_in_turns(store: Store) -> None:
    """Others get their turn while the shards of ten thousand names are computed."""
    names = [f"entity {number}" for number in range(10_000)]
    computed, most = [0], [0]
    shard_for = ids.shard_for

    def counted(entity: str, shards: int) -> int:
        computed[0] += 1
        most[0] = max(most[0], computed[0])
        return shard_for(entity, shards)

    async def others() -> None:
        while True:
            computed[0] = 0
            await asyncio.sleep(0)

    with patch.object(ids, "shard_for", counted):
        ticking = asyncio.create_task(others())
        await Outboxes(store).merge(names, older=True, cursor=None, count=5)
        ticking.cancel()
    assert most[0] <= outbox.NAMES_A_TURN + 1


@pytest.mark.every_store
@pytest.mark.parametrize("older", [True, False])
async def test_merge_tallies_what_each_outbox_holds(store: Store, *, older: bool) -> None:
    """Never fewer than there are above the farthest of the merged ids, nor more than there are."""
    held = await fill(store, [(0, list(range(1, 50, step))) for step in range(1, 12)])
    cursor = activity_id(25)
    tally = Tally()
    merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=9, tally=tally)
    farthest = merged.ids[-1] if older else cursor
    for entity, (_, *some) in held.items():
        assert len([one for one in some if one > farthest]) <= tally.held[entity] <= len(some)
    assert {one: set(routes) for one, routes in tally.routes.items()} == {
        one: {entity for entity, some in held.items() if one in some} for one in merged.ids
    }
