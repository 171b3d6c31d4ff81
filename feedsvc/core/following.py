"""What entities follow, newest edge first: kept in this process for those who page through it.

What is kept is asked for only after the store has confirmed that it is still so: the generation of
an entity's edges changes with every one of them, and the era of the shard when the store
may have lost some.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from feedsvc.core import ids, keys
from feedsvc.core.store import Store
from feedsvc.core.tasks import retrieved

#: Edges that are kept, of all entities together. Those that were listed longest ago go first.
KEPT_EDGES = 100_000
#: Edges that one command reads, about, and that are looked at in one turn of the event loop.
EDGES_A_READ = 500
EDGES_A_TURN = 2_000
#: Times that a list is read again because an edge has changed meanwhile.
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


class Followings:
    """Reads what entities follow; once for all who ask while it is being read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, Following] = OrderedDict()
        self._edges = 0
        self._reading: dict[str, asyncio.Task[Following | None]] = {}

    async def of(self, entity: str) -> Following:
        """All that an entity follows, as it is at some moment after this call began."""
        shard = ids.shard_for(entity, self._store.limits.shards)
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
                # It began before this call did: what it finds is confirmed first.
                await asyncio.shield(task)
                continue
            task = self._reading[entity] = asyncio.create_task(self._read(entity, key, shard))
            task.add_done_callback(lambda ended: self._ended(entity, ended))
            if found := await asyncio.shield(task):
                return found
        flat = await self._store.call("HGETALL", key)
        return await _ordered(dict(zip(flat[::2], flat[1::2], strict=True)), "")

    def _ended(self, entity: str, task: "asyncio.Task[Following | None]") -> None:
        self._reading.pop(entity, None)
        retrieved(task)

    async def _read(self, entity: str, key: str, shard: int) -> Following | None:
        """Reads the edges part by part; None if one has changed meanwhile."""
        before, (cursor, flat) = await asyncio.gather(
            self._store.call("HGET", key, _GENERATION),
            self._store.call("HSCAN", key, 0, "COUNT", EDGES_A_READ),
        )
        era = self._store.eras[shard]
        fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
        if int(cursor):
            while int(cursor):
                cursor, flat = await self._store.call("HSCAN", key, cursor, "COUNT", EDGES_A_READ)
                fields.update(zip(flat[::2], flat[1::2], strict=True))
            after = await self._store.call("HGET", key, _GENERATION)
            if after != before or era != self._store.eras[shard]:
                return None
            fields[_GENERATION] = before
        found = await _ordered(fields, era)
        self._keep(entity, found)
        return found

    def _keep(self, entity: str, found: Following) -> None:
        self._forget(entity)
        self._kept[entity] = found
        self._edges += len(found.names)
        while self._edges > KEPT_EDGES:
            self._forget(next(iter(self._kept)))

    def _forget(self, entity: str) -> None:
        if (kept := self._kept.pop(entity, None)) is not None:
            self._edges -= len(kept.names)


async def _ordered(fields: dict[bytes, bytes], era: str) -> Following:
    """The edges among the fields of an entity, in turns of a millisecond or so."""
    by_age: dict[int, str] = {}
    items = iter(fields.items())
    while some := list(islice(items, EDGES_A_TURN)):
        by_age.update((-int(at), name.decode()) for name, at in some if name not in _OTHER_FIELDS)
        if len(some) == EDGES_A_TURN:
            await asyncio.sleep(0)
    ages = sorted(by_age)
    names = [by_age[age] for age in ages]
    return Following(fields.get(_GENERATION), era, ages, names)
