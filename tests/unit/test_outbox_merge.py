"""Merges of real outboxes, compared with sorted(set(...))."""

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

#: Examples share a store: each replaces the lists of the one before.
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: Sequences of ids: near to each other, so that outboxes share ids and cursors hit them.
SEQUENCES = st.integers(1, 60)
#: An outbox: the sequence up to which it was trimmed, and the sequences that it held.
OUTBOX = st.tuples(st.just(0) | SEQUENCES, st.lists(SEQUENCES, max_size=25))
OUTBOXES = st.lists(OUTBOX, max_size=6)


def activity_id(sequence: int) -> int:
    return ids.make(1_700_000_000_000, sequence, 0)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.at(store_url, Limits())
    await opened.open()
    yield opened
    await opened.close()


async def fill(store: Store, outboxes: list[tuple[int, list[int]]]) -> dict[str, list[int]]:
    """Write outboxes as they are stored; return by entity its floor and its ids."""
    await store.redis.flushall()
    held: dict[str, list[int]] = {}
    for number, (trimmed, sequences) in enumerate(outboxes):
        entity = f"entity {number}"
        floor = activity_id(trimmed) if trimmed else 0
        held[entity] = [floor, *sorted({activity_id(n) for n in sequences if n > trimmed})]
        if len(held[entity]) > 1 or trimmed:
            tag = store.tags[ids.shard_for(entity, store.limits.shards)]
            await store.call("RPUSH", f"{tag}o:{entity}", *held[entity])
        else:
            held[entity] = [0]
    return held


def union(held: dict[str, list[int]]) -> set[int]:
    return {activity_id for _floor, *outbox_ids in held.values() for activity_id in outbox_ids}


def expected(
    held: dict[str, list[int]], cursor: int | None, count: int, *, older: bool
) -> tuple[list[int], bool]:
    """Return the page that a merge must give, and whether it is the last."""
    if older:
        beyond = sorted(
            (id_ for id_ in union(held) if cursor is None or id_ < cursor), reverse=True
        )
    else:
        beyond = sorted(id_ for id_ in union(held) if cursor is not None and id_ > cursor)
    return beyond[:count], len(beyond) < count


@pytest.mark.every_store
@QUICK
@given(OUTBOXES, st.booleans(), st.none() | st.integers(0, 61), st.integers(1, 80))
async def test_merge_returns_the_nearest_ids_of_the_union(
    store: Store,
    outboxes: list[tuple[int, list[int]]],
    older: bool,
    cursor_sequence: int | None,
    count: int,
) -> None:
    held = await fill(store, outboxes)
    cursor = None if cursor_sequence is None and older else activity_id(cursor_sequence or 0)
    merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
    page, exhausted = expected(held, cursor, count, older=older)
    assert merged.ids == page
    assert merged.exhausted == exhausted
    floors = [floor for floor, *_ in held.values()]
    assert merged.floor == max(floors, default=0)


@QUICK
@given(OUTBOXES, st.booleans(), st.integers(1, 7))
async def test_walk_of_merges_returns_each_id_once(
    store: Store,
    outboxes: list[tuple[int, list[int]]],
    older: bool,
    count: int,
) -> None:
    held = await fill(store, outboxes)
    walked: list[int] = []
    cursor = None if older else 0
    merged = Merged([], exhausted=False, floor=0)
    while not merged.exhausted:
        merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
        walked += merged.ids
        cursor = merged.ids[-1] if merged.ids else cursor
    assert walked == sorted(union(held), reverse=older)


@pytest.mark.every_store
@pytest.mark.parametrize("older", [True, False])
async def test_merge_of_hundreds_of_outboxes_is_exact(store: Store, *, older: bool) -> None:
    """They take several script calls. Most are empty; one holds all of the nearest ids."""
    outboxes = [(0, list(range(1, 1_000, 2)))]
    outboxes += [(0, [number]) for number in range(2, 400, 2)]
    outboxes += [(0, []) for _ in range(200)]
    held = await fill(store, outboxes)
    cursor = None if older else 0
    for count in (1, 100, 5_000):
        merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=count)
        page, exhausted = expected(held, cursor, count, older=older)
        assert (merged.ids, merged.exhausted) == (page, exhausted)


async def test_merge_of_no_outboxes_is_empty_and_exhausted(store: Store) -> None:
    for older in (True, False):
        merged = await Outboxes(store).merge([], older=older, cursor=None if older else 0, count=5)
        assert merged == Merged([], exhausted=True, floor=0)


async def test_failed_read_of_a_cancelled_merge_is_not_reported(store: Store) -> None:
    """The caller of the merge has gone, so the error is no defect."""
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))
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
    assert not reports


class Recorder:
    """Counts the script calls of a store, and the calls under way at once."""

    def __init__(self, store: Store) -> None:
        self._script = store.script
        self.calls = self.outboxes = self.under_way = self.most_under_way = 0

    async def script(self, name: str, shards: int, *arguments: Arg, cost: int = 0) -> Any:
        assert name == "outbox_read"
        outboxes = (len(arguments) - 1) // 3
        assert outboxes <= outbox.OUTBOXES_A_CALL
        assert sum(map(int, arguments[3::3])) <= outbox.IDS_A_CALL
        self.calls += 1
        self.outboxes += outboxes
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._script(name, shards, *arguments, cost=cost)
        finally:
            self.under_way -= 1


async def test_wide_merge_makes_few_calls_at_a_time(store: Store) -> None:
    held = await fill(store, [(0, [number % 60 + 1]) for number in range(1_000)])
    recorder = Recorder(store)
    with patch.object(store, "script", recorder.script):
        merged = await Outboxes(store).merge(held, older=True, cursor=None, count=100)
    assert merged.ids == expected(held, None, 100, older=True)[0]
    assert recorder.outboxes == len(held)
    assert recorder.most_under_way <= outbox.CALLS_A_MERGE


async def test_wide_merges_take_turns(store: Store) -> None:
    names = [[f"{reader}:{number}" for number in range(400)] for reader in range(16)]
    recorder, outboxes, ended = Recorder(store), Outboxes(store), list[int]()

    async def merge(reader: int) -> None:
        await outboxes.merge(names[reader], older=True, cursor=None, count=100)
        ended.append(reader)

    with patch.object(store, "script", recorder.script):
        await asyncio.gather(*map(merge, range(16)))
    assert recorder.most_under_way <= outbox.WIDE_MERGES * outbox.CALLS_A_MERGE
    assert all(abs(position - reader) < outbox.WIDE_MERGES for position, reader in enumerate(ended))


async def test_cancelled_merge_stops_reading(store: Store) -> None:
    names = [f"entity {number}" for number in range(10_000)]
    recorder = Recorder(store)
    with patch.object(store, "script", recorder.script):
        merging = asyncio.create_task(
            Outboxes(store).merge(names, older=True, cursor=None, count=100)
        )
        while not recorder.calls:  # noqa: ASYNC110 (the test needs the very next turn)
            await asyncio.sleep(0)
        merging.cancel()
        with suppress(asyncio.CancelledError):
            await merging
        while recorder.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert recorder.calls <= 2 * outbox.CALLS_A_MERGE


async def test_shards_of_many_names_are_computed_in_turns(store: Store) -> None:
    """Other work gets its turn while the shards of ten thousand names are computed."""
    names = [f"entity {number}" for number in range(10_000)]
    computed = most_in_a_turn = 0
    shard_for = ids.shard_for

    def counting_shard_for(entity: str, shards: int) -> int:
        nonlocal computed, most_in_a_turn
        computed += 1
        most_in_a_turn = max(most_in_a_turn, computed)
        return shard_for(entity, shards)

    async def tick() -> None:
        nonlocal computed
        while True:
            computed = 0
            await asyncio.sleep(0)

    with patch.object(ids, "shard_for", counting_shard_for):
        ticking = asyncio.create_task(tick())
        await Outboxes(store).merge(names, older=True, cursor=None, count=5)
        ticking.cancel()
    assert most_in_a_turn <= outbox.NAMES_A_TURN + 1


@pytest.mark.every_store
@pytest.mark.parametrize("older", [True, False])
async def test_merge_tallies_the_ids_of_each_outbox(store: Store, *, older: bool) -> None:
    """A tally is at least the outbox's ids above the farthest merged id, at most all of its ids."""
    held = await fill(store, [(0, list(range(1, 50, step))) for step in range(1, 12)])
    cursor = activity_id(25)
    tally = Tally()
    merged = await Outboxes(store).merge(held, older=older, cursor=cursor, count=9, tally=tally)
    farthest = merged.ids[-1] if older else cursor
    for entity, (_floor, *outbox_ids) in held.items():
        above = sum(id_ > farthest for id_ in outbox_ids)
        assert above <= tally.held[entity] <= len(outbox_ids)
    assert {id_: set(routes) for id_, routes in tally.routes.items()} == {
        id_: {entity for entity, (_floor, *outbox_ids) in held.items() if id_ in outbox_ids}
        for id_ in merged.ids
    }
