"""Outboxes, read and merged: the query that a feed is the stored answer to."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from feedsvc.core import ids
from feedsvc.core.store import Arg, Store
from feedsvc.core.tasks import retrieved

#: Outboxes that one script call reads at the most: about a millisecond's work for the store.
OUTBOXES_A_CALL = 40

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


@dataclass(eq=False, slots=True)
class _Fetch:
    """A call that reads slices of outboxes of a shard, in one direction."""

    shard: int
    older: bool
    wanted: dict[_Slice, None] = field(default_factory=dict)
    task: "asyncio.Task[dict[_Slice, list[int]]]" = field(init=False)


class Outboxes:
    """Reads outboxes. What several readers want, is read once for all who ask before it is sent.

    So a hot outbox takes the store no more than one read at a time, and nobody is told anything
    that was read before he asked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unsent: dict[tuple[int, bool], _Fetch] = {}

    async def merge(
        self, entities: Collection[str], *, older: bool, cursor: int | None, count: int
    ) -> Merged:
        """The next ``count`` ids of merged outboxes beyond a cursor, towards older or newer ids.

        ``cursor`` is exclusive; None, only when going towards older ids, is the top. Memory is
        bounded by a few ids an outbox and a few times ``count``: what one outbox holds is read
        further only as far as it can matter.
        """
        ahead = -1 if older else 1  # sorted by id * ahead, the nearest is first
        chunk = min(count, 4 + 2 * count // max(1, len(entities)))
        cursors: dict[str, int | None] = dict.fromkeys(entities, cursor)
        found: set[int] = set()
        floor = 0
        while cursors:
            slices = await self._read(cursors, older=older, count=chunk)
            for entity, (trimmed, *some) in slices.items():
                floor = max(floor, trimmed)
                found.update(some)
                if len(some) < chunk:
                    del cursors[entity]
                else:
                    cursors[entity] = some[-1]
            if len(found) > count:
                nearest = sorted(found, reverse=older)[:count]
                found = set(nearest)
            if len(found) == count and cursors:
                farthest = max(one * ahead for one in found)
                cursors = {
                    entity: at
                    for entity, at in cursors.items()
                    if at is not None and at * ahead < farthest
                }
            chunk = min(count, chunk * 2)
        return Merged(sorted(found, reverse=older), len(found) < count, floor)

    async def _read(
        self, cursors: dict[str, int | None], *, older: bool, count: int
    ) -> dict[str, list[int]]:
        """For each outbox its floor, then up to ``count`` ids beyond the cursor."""
        parts: dict[_Fetch, list[str]] = {}
        for entity, cursor in cursors.items():
            shard = ids.shard_for(entity, self._store.limits.shards)
            fetch = self._fetch(shard, (entity, cursor, count), older=older)
            parts.setdefault(fetch, []).append(entity)
        # Whoever goes away does not take along what others wait for.
        found = await asyncio.gather(*(asyncio.shield(fetch.task) for fetch in parts))
        return {
            entity: slices[entity, cursors[entity], count]
            for entities, slices in zip(parts.values(), found, strict=True)
            for entity in entities
        }

    def _fetch(self, shard: int, wanted: _Slice, *, older: bool) -> _Fetch:
        """The call that will read a slice: one that was not sent yet, or a new one."""
        fetch = self._unsent.get((shard, older))
        if fetch is None or (len(fetch.wanted) >= OUTBOXES_A_CALL and wanted not in fetch.wanted):
            fetch = self._unsent[shard, older] = _Fetch(shard, older)
            fetch.task = asyncio.create_task(self._send(fetch))
            fetch.task.add_done_callback(retrieved)
        fetch.wanted[wanted] = None
        return fetch

    async def _send(self, fetch: _Fetch) -> dict[_Slice, list[int]]:
        await self._store.until_free()
        if self._unsent.get((fetch.shard, fetch.older)) is fetch:
            del self._unsent[fetch.shard, fetch.older]
        arguments: list[Arg] = ["older" if fetch.older else "newer"]
        for entity, cursor, count in fetch.wanted:
            arguments += (entity, "" if cursor is None else cursor, count)
        slices = await self._store.script("outbox_read", fetch.shard, *arguments)
        return {
            wanted: [int(one) for one in found]
            for wanted, found in zip(fetch.wanted, slices, strict=True)
        }
