"""Outboxes: reads and merges them. The merge is the query whose answer a feed stores."""

import asyncio
import math
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from feedsvc.core.background import mark_retrieved
from feedsvc.core.concurrency import run_concurrently
from feedsvc.core.store import Arg, Store

#: Most outboxes that one script call reads, and most ids of all these outboxes: about a
#: millisecond's work for the store, and less for this process.
OUTBOXES_A_CALL = 40
IDS_A_CALL = 4_000
#: Cost of each outbox of a call beside the call's arguments: see ``batching.py``.
OUTBOX_COST = 4
#: Most calls of one merge that are under way at a time.
CALLS_A_MERGE = 6
#: Outboxes above which a merge is wide, and most wide merges of a process that run at a time.
#: Further wide merges wait in the order in which they came.
WIDE = 4 * OUTBOXES_A_CALL
WIDE_MERGES = 4
#: Names whose shards are computed in one turn of the event loop.
NAMES_A_TURN = 500

_Slice = tuple[str, int | None, int]
"""A slice of an outbox to read: the entity, the cursor, the number of ids."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A slice of the merge of several outboxes."""

    ids: list[int]
    """Ids beyond the cursor, nearest to it first, each once."""
    exhausted: bool
    """True if the outboxes hold no more ids in this direction."""
    floor: int
    """The id below which an outbox is trimmed; 0: no outbox is trimmed."""


@dataclass(slots=True)
class Tally:
    """The outboxes that merged ids came from, and their numbers of ids."""

    held: dict[str, int] = field(default_factory=dict)
    """Number of ids that each outbox holds above the farthest merged id, or a few more."""
    floors: dict[str, int] = field(default_factory=dict)
    """The floors of the outboxes that are trimmed."""
    routes: dict[int, list[str]] = field(default_factory=dict)
    """By id, all outboxes that hold it."""

    def add(
        self, entity: str, floor: int, count_above: int, nearest: list[int], *, older: bool
    ) -> None:
        """Note a slice of an outbox: its floor, its number of ids above the cursor, its ids."""
        if older or entity not in self.held:
            self.held[entity] = count_above + len(nearest) * older
        if floor:
            self.floors[entity] = floor
        for activity_id in nearest:
            self.routes.setdefault(activity_id, []).append(entity)

    def keep(self, activity_ids: set[int]) -> None:
        """Forget the routes of all other ids."""
        self.routes = {activity_id: self.routes[activity_id] for activity_id in activity_ids}


@dataclass(slots=True)
class _Merging:
    """The slices of outboxes that a merge has read so far."""

    older: bool
    count: int
    """Number of ids to merge."""
    tally: Tally | None
    ids: set[int] = field(default_factory=set)
    floor: int = 0
    reached: dict[int, dict[str, int]] = field(default_factory=dict)
    """By shard and entity, the last id that was read of each outbox that may hold more ids."""

    def add(self, shard: int, slices: dict[str, list[int]], chunk: int) -> None:
        """Take slices of up to ``chunk`` ids of the outboxes of a shard."""
        merged_ids, merged_floor, tally = self.ids, self.floor, self.tally
        for entity, (floor, count_above, *nearest) in slices.items():
            merged_floor = max(merged_floor, floor)
            merged_ids.update(nearest)
            if tally is not None:
                tally.add(entity, floor, count_above, nearest, older=self.older)
            if len(nearest) == chunk:
                self.reached.setdefault(shard, {})[entity] = nearest[-1]
        self.floor = merged_floor
        if len(self.ids) > 2 * self.count:
            self.keep_nearest()

    def keep_nearest(self) -> None:
        """Forget ids that are too far from the cursor for the merge."""
        self.ids = set(sorted(self.ids, reverse=self.older)[: self.count])
        if self.tally is not None:
            self.tally.keep(self.ids)

    def take_unread(self) -> dict[int, dict[str, int | None]]:
        """Return the last id read of each outbox that may hold a nearer id than a merged id.

        Until enough ids are merged, these are all outboxes that may hold more ids.
        """
        sign = -1 if self.older else 1  # sorted by id * sign, the nearest id is first
        farthest = None
        if len(self.ids) == self.count:
            farthest = max((activity_id * sign for activity_id in self.ids), default=None)
        unread: dict[int, dict[str, int | None]] = {}
        for shard, cursors in self.reached.items():
            for entity, last_id in cursors.items():
                if farthest is None or last_id * sign < farthest:
                    unread.setdefault(shard, {})[entity] = last_id
        self.reached = {}
        return unread


@dataclass(eq=False, slots=True)
class _Fetch:
    """A call that reads slices of outboxes of one shard, in one direction."""

    shard: int
    older: bool
    wanted: dict[_Slice, None] = field(default_factory=dict)
    ids: int = 0
    """Most ids that the call reads, of all its outboxes."""
    task: "asyncio.Task[dict[_Slice, list[int]]]" = field(init=False)

    def is_full(self, wanted: _Slice) -> bool:
        """Return whether another slice would make the call too long."""
        return len(self.wanted) >= OUTBOXES_A_CALL or self.ids + wanted[2] > IDS_A_CALL


class Outboxes:
    """Reads outboxes; a slice is read once for all readers that ask before the read is sent.

    So the store has at most one read of a hot outbox at a time, and no reader gets ids that were
    read before the reader asked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unsent: dict[tuple[int, bool], _Fetch] = {}
        self._wide = asyncio.Semaphore(WIDE_MERGES)

    async def merge(
        self,
        entities: Collection[str],
        *,
        older: bool,
        cursor: int | None,
        count: int,
        tally: Tally | None = None,
    ) -> Merged:
        """Return the next ``count`` ids of merged outboxes beyond a cursor.

        ``older`` is the direction. ``cursor`` is exclusive; None, only towards older ids, is the
        top. Memory is bounded by a few ids an outbox and a few times ``count``: an outbox is read
        further only as far as it can matter. The work is done call by call, a few calls at a time.
        A given ``tally`` is filled in.
        """
        async with self._wide if len(entities) > WIDE else nullcontext():
            return await self._merge(entities, older, cursor, count, tally)

    async def _merge(
        self,
        entities: Collection[str],
        older: bool,  # noqa: FBT001 (as ``merge`` got it)
        cursor: int | None,
        count: int,
        tally: Tally | None,
    ) -> Merged:
        chunk = min(count, 4 + 2 * count // max(1, len(entities)))
        merging = _Merging(older, count, tally)

        async def lane() -> None:
            for shard, cursors in parts:
                slices = await self._read(shard, cursors, older=older, count=chunk)
                merging.add(shard, slices, chunk)

        unread = await self._by_shard(entities, cursor)
        while unread:
            outboxes_a_call = max(1, min(OUTBOXES_A_CALL, IDS_A_CALL // chunk))
            parts = _parts(unread, outboxes_a_call)
            calls = sum(math.ceil(len(cursors) / outboxes_a_call) for cursors in unread.values())
            await run_concurrently(lane, min(CALLS_A_MERGE, calls))
            merging.keep_nearest()
            await _yield_if_wide(len(entities))
            unread = merging.take_unread()
            await _yield_if_wide(len(entities))
            chunk = min(count, chunk * 2)
        merged_ids = sorted(merging.ids, reverse=older)
        return Merged(merged_ids, len(merged_ids) < count, merging.floor)

    async def _by_shard(
        self, entities: Collection[str], cursor: int | None
    ) -> dict[int, dict[str, int | None]]:
        """Return the cursor of each entity, by shard."""
        by_shard: dict[int, dict[str, int | None]] = {}
        for number, entity in enumerate(entities, 1):
            by_shard.setdefault(self._store.shard_for(entity), {})[entity] = cursor
            if number % NAMES_A_TURN == 0:
                await asyncio.sleep(0)
        return by_shard

    async def _read(
        self, shard: int, cursors: dict[str, int | None], *, older: bool, count: int
    ) -> dict[str, list[int]]:
        """Return each outbox's floor, its number of ids above the cursor, and its ids beyond it."""
        fetches = {
            entity: self._fetch(shard, (entity, cursor, count), older=older)
            for entity, cursor in cursors.items()
        }
        read = {}
        for entity, fetch in fetches.items():
            # A reader that is cancelled does not cancel a call that other readers wait for.
            slices = (
                await asyncio.shield(fetch.task) if not fetch.task.done() else fetch.task.result()
            )
            read[entity] = slices[entity, cursors[entity], count]
        return read

    def _fetch(self, shard: int, wanted: _Slice, *, older: bool) -> _Fetch:
        """Return the call that will read a slice: an unsent call, or a new call."""
        fetch = self._unsent.get((shard, older))
        if fetch is None or (wanted not in fetch.wanted and fetch.is_full(wanted)):
            fetch = self._unsent[shard, older] = _Fetch(shard, older)
            fetch.task = asyncio.create_task(self._send(fetch))
            fetch.task.add_done_callback(mark_retrieved)
        if wanted not in fetch.wanted:
            fetch.wanted[wanted] = None
            fetch.ids += wanted[2]
        return fetch

    async def _send(self, fetch: _Fetch) -> dict[_Slice, list[int]]:
        await self._store.until_free()
        if self._unsent.get((fetch.shard, fetch.older)) is fetch:
            del self._unsent[fetch.shard, fetch.older]
        arguments: list[Arg] = ["older" if fetch.older else "newer"]
        for entity, cursor, count in fetch.wanted:
            arguments += (entity, "" if cursor is None else cursor, count)
        slices = await self._store.script(
            "outbox_read", fetch.shard, *arguments, cost=OUTBOX_COST * len(fetch.wanted)
        )
        return {
            wanted: [int(number) for number in numbers]
            for wanted, numbers in zip(fetch.wanted, slices, strict=True)
        }


def _parts(
    unread: dict[int, dict[str, int | None]], limit: int
) -> Iterator[tuple[int, dict[str, int | None]]]:
    """Split unread outboxes into parts of up to ``limit`` outboxes of a shard, shards in turn."""

    def split(
        shard: int, cursors: dict[str, int | None]
    ) -> Iterator[tuple[int, dict[str, int | None]]]:
        names_and_cursors = iter(cursors.items())
        while part := dict(islice(names_and_cursors, limit)):
            yield shard, part

    rows = zip_longest(*(split(shard, cursors) for shard, cursors in unread.items()))
    return (part for row in rows for part in row if part is not None)


async def _yield_if_wide(entities: int) -> None:
    """Let other tasks run during a wide merge."""
    if entities > WIDE:
        await asyncio.sleep(0)
