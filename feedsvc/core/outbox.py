"""Outboxes, read and merged: the query that a feed is the stored answer to."""

import asyncio
import math
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from feedsvc.core import ids
from feedsvc.core.store import Arg, Store
from feedsvc.core.tasks import in_lanes, retrieved

#: Outboxes that one script call reads at the most, and ids of all of them: about a millisecond's
#: work for the store, and less for this process.
OUTBOXES_A_CALL = 40
IDS_A_CALL = 4_000
#: What an outbox of a call costs the store beside its arguments, in the units of ``batching.py``.
OUTBOX_COST = 4
#: Calls that one merge waits for at a time.
CALLS_A_MERGE = 6
#: A merge of more outboxes than this is wide, and so many wide merges of a process run at a time.
#: The others wait in the order they came.
WIDE = 4 * OUTBOXES_A_CALL
WIDE_MERGES = 4
#: Names whose shards are computed in one turn of the event loop.
NAMES_A_TURN = 500

_Slice = tuple[str, int | None, int]
"""What to read of an outbox: its entity, the cursor, how many ids."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A slice of the merge of several outboxes."""

    ids: list[int]
    """Beyond the cursor, nearest to it first, each once."""
    exhausted: bool
    """There are no more in this direction."""
    floor: int
    """Below this id some outbox was trimmed; 0: none was."""


@dataclass(slots=True)
class Tally:
    """Which outboxes merged ids came from, and how much these hold."""

    held: dict[str, int] = field(default_factory=dict)
    """Ids that each outbox holds above the farthest merged one; rather too many than too few."""
    floors: dict[str, int] = field(default_factory=dict)
    """The floors of those that were trimmed."""
    routes: dict[int, list[str]] = field(default_factory=dict)
    """By id, all the outboxes that hold it."""

    def add(
        self, entity: str, trimmed: int, above: int, nearest: list[int], *, older: bool
    ) -> None:
        """Notes what was read of an outbox."""
        if older or entity not in self.held:
            self.held[entity] = above + len(nearest) * older
        if trimmed:
            self.floors[entity] = trimmed
        for one in nearest:
            self.routes.setdefault(one, []).append(entity)

    def keep(self, found: set[int]) -> None:
        """Forgets all other ids."""
        self.routes = {one: self.routes[one] for one in found}


@dataclass(eq=False, slots=True)
class _Fetch:
    """A call that reads slices of outboxes of a shard, in one direction."""

    shard: int
    older: bool
    wanted: dict[_Slice, None] = field(default_factory=dict)
    ids: int = 0
    """How many it may read, of all outboxes."""
    task: "asyncio.Task[dict[_Slice, list[int]]]" = field(init=False)

    def is_full(self, wanted: _Slice) -> bool:
        """Whether a slice more would make the call too long."""
        return len(self.wanted) >= OUTBOXES_A_CALL or self.ids + wanted[2] > IDS_A_CALL


class Outboxes:
    """Reads outboxes. What several readers want, is read once for all who ask before it is sent.

    So a hot outbox takes the store no more than one read at a time, and nobody is told anything
    that was read before he asked.
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
        """The next ``count`` ids of merged outboxes beyond a cursor, towards older or newer ids.

        ``cursor`` is exclusive; None, only when going towards older ids, is the top. Memory is
        bounded by a few ids an outbox and a few times ``count``: what one outbox holds is read
        further only as far as it can matter. The work is done call by call, a few calls at a time.

        A ``tally`` is filled in.
        """
        async with self._wide if len(entities) > WIDE else nullcontext():
            return await self._merge(entities, older, cursor, count, tally)

    async def _merge(
        self,
        entities: Collection[str],
        older: bool,  # noqa: FBT001 (as ``merge`` was told)
        cursor: int | None,
        count: int,
        tally: Tally | None,
    ) -> Merged:
        chunk = min(count, 4 + 2 * count // max(1, len(entities)))
        found: set[int] = set()
        floor = 0

        def keep_nearest() -> None:
            nonlocal found
            found = set(sorted(found, reverse=older)[:count])
            if tally is not None:
                tally.keep(found)

        async def lane() -> None:
            nonlocal floor
            for shard, some in parts:
                slices = await self._read(shard, some, older=older, count=chunk)
                for entity, (trimmed, above, *nearest) in slices.items():
                    floor = max(floor, trimmed)
                    found.update(nearest)
                    if tally is not None:
                        tally.add(entity, trimmed, above, nearest, older=older)
                    if len(nearest) == chunk:
                        reached.setdefault(shard, {})[entity] = nearest[-1]
                if len(found) > 2 * count:
                    keep_nearest()

        left = await self._by_shard(entities, cursor)
        while left:
            most = max(1, min(OUTBOXES_A_CALL, IDS_A_CALL // chunk))
            parts = _parts(left, most)
            calls = sum(math.ceil(len(cursors) / most) for cursors in left.values())
            reached: dict[int, dict[str, int]] = {}
            await in_lanes(lane, min(CALLS_A_MERGE, calls))
            keep_nearest()
            await _turn(len(entities))
            left = _mattering(reached, found if len(found) == count else (), older=older)
            await _turn(len(entities))
            chunk = min(count, chunk * 2)
        return Merged(sorted(found, reverse=older), len(found) < count, floor)

    async def _by_shard(
        self, entities: Collection[str], cursor: int | None
    ) -> dict[int, dict[str, int | None]]:
        """The cursor of each entity, by shard."""
        shards = self._store.limits.shards
        found: dict[int, dict[str, int | None]] = {}
        for number, entity in enumerate(entities, 1):
            found.setdefault(ids.shard_for(entity, shards), {})[entity] = cursor
            if number % NAMES_A_TURN == 0:
                await asyncio.sleep(0)
        return found

    async def _read(
        self, shard: int, cursors: dict[str, int | None], *, older: bool, count: int
    ) -> dict[str, list[int]]:
        """For each outbox its floor, its ids above the cursor, and up to ``count`` beyond it."""
        fetches = {
            entity: self._fetch(shard, (entity, cursor, count), older=older)
            for entity, cursor in cursors.items()
        }
        found = {}
        for entity, fetch in fetches.items():
            # Whoever goes away does not take along what others wait for.
            slices = (
                await asyncio.shield(fetch.task) if not fetch.task.done() else fetch.task.result()
            )
            found[entity] = slices[entity, cursors[entity], count]
        return found

    def _fetch(self, shard: int, wanted: _Slice, *, older: bool) -> _Fetch:
        """The call that will read a slice: one that was not sent yet, or a new one."""
        fetch = self._unsent.get((shard, older))
        if fetch is None or (wanted not in fetch.wanted and fetch.is_full(wanted)):
            fetch = self._unsent[shard, older] = _Fetch(shard, older)
            fetch.task = asyncio.create_task(self._send(fetch))
            fetch.task.add_done_callback(retrieved)
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
            wanted: [int(one) for one in found]
            for wanted, found in zip(fetch.wanted, slices, strict=True)
        }


def _parts(
    left: dict[int, dict[str, int | None]], most: int
) -> Iterator[tuple[int, dict[str, int | None]]]:
    """What is to be read, by shard, in parts of so many outboxes, the shards in turn."""

    def split(
        shard: int, cursors: dict[str, int | None]
    ) -> Iterator[tuple[int, dict[str, int | None]]]:
        names = iter(cursors.items())
        while some := dict(islice(names, most)):
            yield shard, some

    rows = zip_longest(*(split(shard, cursors) for shard, cursors in left.items()))
    return (part for row in rows for part in row if part is not None)


async def _turn(entities: int) -> None:
    """Gives others their turn in the course of a wide merge."""
    if entities > WIDE:
        await asyncio.sleep(0)


def _mattering(
    reached: dict[int, dict[str, int]], found: Collection[int], *, older: bool
) -> dict[int, dict[str, int | None]]:
    """Of outboxes that were read to some id: those that may hold something nearer than was found.

    All of them if nothing was found, or not enough.
    """
    ahead = -1 if older else 1  # sorted by id * ahead, the nearest is first
    farthest = max((one * ahead for one in found), default=None)
    left: dict[int, dict[str, int | None]] = {}
    for shard, cursors in reached.items():
        for entity, at in cursors.items():
            if farthest is None or at * ahead < farthest:
                left.setdefault(shard, {})[entity] = at
    return left
