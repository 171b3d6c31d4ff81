"""Sources: entities whose followers are addressed, where these are and how they are reached."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from feedsvc.core import ids, keys
from feedsvc.core.store import Store


@dataclass(frozen=True, slots=True)
class Source:
    """An entity as its shard knows it."""

    entity: str
    shards: list[int]
    """In which it has, or had, followers."""
    mode: str
    """See ``keys.FIELDS``."""

    @classmethod
    def of(cls, entity: str, bitmap: bytes | None, mode: bytes | None) -> Self:
        """By the fields of the entity."""
        return cls(entity, shards_in(bitmap or b""), (mode or b"").decode())

    @property
    def pulled(self) -> bool:
        """Whether its followers read its outbox for themselves."""
        return self.mode[:1] == "P"


def shards_in(bitmap: bytes) -> list[int]:
    """The shards that a bitmap of the store names; bit 0 is the highest of the first byte."""
    return [
        8 * index + bit
        for index, byte in enumerate(bitmap)
        if byte
        for bit in range(8)
        if byte & (0x80 >> bit)
    ]


async def read(store: Store, entities: Iterable[str]) -> list[Source]:
    """Entities as they are now."""

    async def one(entity: str) -> Source:
        tag = store.tags[ids.shard_for(entity, store.limits.shards)]
        fields = await store.call("HMGET", keys.edges(tag, entity), keys.SHARDS, keys.MODE)
        return Source.of(entity, *fields)

    return await asyncio.gather(*(one(entity) for entity in entities))


async def count(store: Store, source: Source) -> int:
    """How many follow an entity; counted where the edges are."""
    if not source.shards:
        return 0
    if not store.cluster:
        found: int = await store.script("followers_count", source.shards, source.entity)
        return found
    counts = await asyncio.gather(
        *(store.script("followers_count", shard, source.entity) for shard in source.shards)
    )
    return sum(counts)
