"""Outboxes, read and merged: the query that a feed is the stored answer to."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from feedsvc.core import ids
from feedsvc.core.store import Arg, Store

#: Outboxes that one script call reads at the most: about a millisecond's work for the store.
OUTBOXES_A_CALL = 40


@dataclass(frozen=True, slots=True)
class Merged:
    """A slice of the merge of several outboxes."""

    ids: list[int]
    """Beyond the cursor, nearest to it first, each once."""
    exhausted: bool
    """There are no more in this direction."""
    floor: int
    """Below this id some outbox was trimmed; 0: none was."""


async def merge(
    store: Store, entities: Collection[str], *, older: bool, cursor: int | None, count: int
) -> Merged:
    """The next ``count`` ids of the merged outboxes beyond a cursor, towards older or newer ids.

    ``cursor`` is exclusive; None, only when going towards older ids, is the top. Memory is bounded
    by a few ids an outbox and a few times ``count``: what one outbox holds is read further only as
    far as it can matter.
    """
    ahead = -1 if older else 1  # sign of the direction: sorted by id * ahead, the nearest is first
    chunk = min(count, 4 + 2 * count // max(1, len(entities)))
    cursors: dict[str, int | None] = dict.fromkeys(entities, cursor)
    found: set[int] = set()
    floor = 0
    while cursors:
        slices = await _read(store, cursors, older=older, count=chunk)
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
    store: Store, cursors: dict[str, int | None], *, older: bool, count: int
) -> dict[str, list[int]]:
    """For each outbox its floor, then up to ``count`` ids beyond the cursor."""
    by_shard: dict[int, list[str]] = {}
    for entity in cursors:
        by_shard.setdefault(ids.shard_for(entity, store.limits.shards), []).append(entity)
    slices: dict[str, list[int]] = {}

    async def read(shard: int, some: list[str]) -> None:
        arguments: list[Arg] = ["older" if older else "newer"]
        for entity in some:
            at = cursors[entity]
            arguments += (entity, "" if at is None else at, count)
        for entity, found in zip(
            some, await store.script("outbox_read", shard, *arguments), strict=True
        ):
            slices[entity] = [int(one) for one in found]

    await asyncio.gather(
        *(
            read(shard, some[first : first + OUTBOXES_A_CALL])
            for shard, some in by_shard.items()
            for first in range(0, len(some), OUTBOXES_A_CALL)
        )
    )
    return slices
