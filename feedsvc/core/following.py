"""Lists of followees, newest edge first, kept in this process for callers that page through them.

A kept list is used only after the store has confirmed that it is still current: the generation of
an entity's edges changes with every edge, and the era of the shard when the store may have lost
some of them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from feedsvc.core import keys
from feedsvc.core.background import mark_retrieved
from feedsvc.core.store import Store

#: Edges that are kept, of all entities together. The list that was used longest ago goes first.
KEPT_EDGES = 100_000
#: Approximate number of edges that one command reads.
EDGES_A_READ = 500
#: Edges that are prepared for sorting in one turn of the event loop.
EDGES_A_TURN = 2_000
#: Most reads of a list part by part while its edges keep changing; then one command reads it.
READS = 4

_GENERATION = keys.FIELDS["GENERATION"].encode()
_OTHER_FIELDS = frozenset(name.encode() for name in keys.FIELDS.values())


@dataclass(frozen=True, slots=True)
class Following:
    """All edges of an entity at one moment, newest first."""

    generation: bytes | None
    era: str
    ages: list[int]
    """The negative of each edge's position, ascending."""
    names: list[str]
    """The followees, in the same order."""


class Followings:
    """Reads lists of followees, once for all callers that ask while a list is being read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, Following] = OrderedDict()
        self._kept_edges = 0
        self._reading: dict[str, asyncio.Task[Following | None]] = {}

    async def of(self, entity: str) -> Following:
        """Return the edges of an entity as they are at a moment after this call began."""
        shard = self._store.shard_for(entity)
        key = keys.edges(self._store.tags[shard], entity)
        for _ in range(READS):
            if entity in self._kept:
                generation = await self._store.call("HGET", key, _GENERATION)
                kept = self._kept.get(entity)
                if (
                    kept is not None
                    and kept.generation == generation
                    and kept.era == self._store.eras[shard]
                ):
                    self._kept.move_to_end(entity)
                    return kept
                self._forget(entity)
            if task := self._reading.get(entity):
                # The read began before this call did: its list has to be confirmed.
                await asyncio.shield(task)
                continue
            task = self._reading[entity] = asyncio.create_task(self._read(entity, key, shard))
            task.add_done_callback(lambda ended: self._read_ended(entity, ended))
            if following := await asyncio.shield(task):
                return following
        elements = await self._store.call("HGETALL", key)
        return await _ordered(_fields(elements), "")

    def _read_ended(self, entity: str, task: "asyncio.Task[Following | None]") -> None:
        self._reading.pop(entity, None)
        mark_retrieved(task)

    async def _read(self, entity: str, key: str, shard: int) -> Following | None:
        """Read the edges part by part; return None if an edge has changed meanwhile."""
        before, (cursor, elements) = await asyncio.gather(
            self._store.call("HGET", key, _GENERATION),
            self._store.call("HSCAN", key, 0, "COUNT", EDGES_A_READ),
        )
        era = self._store.eras[shard]
        fields = _fields(elements)
        if int(cursor):
            while int(cursor):
                cursor, elements = await self._store.call(
                    "HSCAN", key, cursor, "COUNT", EDGES_A_READ
                )
                fields |= _fields(elements)
            after = await self._store.call("HGET", key, _GENERATION)
            if after != before or era != self._store.eras[shard]:
                return None
            fields[_GENERATION] = before
        following = await _ordered(fields, era)
        self._keep(entity, following)
        return following

    def _keep(self, entity: str, following: Following) -> None:
        self._forget(entity)
        self._kept[entity] = following
        self._kept_edges += len(following.names)
        while self._kept_edges > KEPT_EDGES:
            self._forget(next(iter(self._kept)))

    def _forget(self, entity: str) -> None:
        if (kept := self._kept.pop(entity, None)) is not None:
            self._kept_edges -= len(kept.names)


def _fields(elements: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a hash, of which the store answers with names and values in turn."""
    return dict(zip(elements[::2], elements[1::2], strict=True))


async def _ordered(fields: dict[bytes, bytes], era: str) -> Following:
    """Sort the edges among the fields of an entity, in turns of about a millisecond."""
    by_age: dict[int, str] = {}
    items = iter(fields.items())
    while part := list(islice(items, EDGES_A_TURN)):
        by_age.update(
            (-int(position), name.decode()) for name, position in part if name not in _OTHER_FIELDS
        )
        if len(part) == EDGES_A_TURN:
            await asyncio.sleep(0)
    ages = sorted(by_age)
    names = [by_age[age] for age in ages]
    return Following(fields.get(_GENERATION), era, ages, names)
