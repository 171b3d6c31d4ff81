"""Sources: entities whose followers a job addresses, and how the followers get activities."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from feedsvc.core import keys
from feedsvc.core.store import Store


@dataclass(frozen=True, slots=True)
class Source:
    """An entity as its shard knows it."""

    entity: str
    shards: list[int]
    """The shards in which the entity has, or had, followers."""
    mode: str
    """How followers get the entity's activities, and the epoch of the last flip: ``keys.MODES``."""

    @classmethod
    def of(cls, entity: str, bitmap: bytes | None, mode: bytes | None) -> Self:
        """Return the source that the fields of an entity stand for."""
        return cls(entity, shards_in(bitmap or b""), (mode or b"").decode())

    @property
    def pulled(self) -> bool:
        """True if followers read the entity's outbox themselves."""
        return self.mode[:1] == keys.MODE_PULL

    @property
    def pushed(self) -> bool:
        """True if activities are pushed to the followers, and no flip is under way."""
        return self.mode[:1] in ("", keys.MODE_PUSH)

    @property
    def becomes_pulled(self) -> bool:
        """True if the last flip, under way or ended, is a flip to PULL."""
        return self.mode.startswith((keys.MODE_TO_PULL, keys.MODE_PULL))

    @property
    def epoch(self) -> int:
        """Number of the last flip; 0 if the entity was never flipped."""
        return int(self.mode[1:] or 0)


def shards_in(bitmap: bytes) -> list[int]:
    """Return the shards that a bitmap of the store names; bit 0 is the first byte's highest."""
    return [
        8 * index + bit
        for index, byte in enumerate(bitmap)
        if byte
        for bit in range(8)
        if byte & (0x80 >> bit)
    ]


async def read(store: Store, entities: Iterable[str]) -> list[Source]:
    """Read the sources of entities from the store."""

    async def read_source(entity: str) -> Source:
        key = keys.edges(store.tag_for(entity), entity)
        return Source.of(entity, *await store.call("HMGET", key, keys.SHARDS, keys.MODE))

    return await asyncio.gather(*map(read_source, entities))


async def count(store: Store, source: Source) -> int:
    """Count the followers of an entity in the shards that have the edges."""
    if not source.shards:
        return 0
    if not store.cluster:
        followers: int = await store.script("followers_count", source.shards, source.entity)
        return followers
    counts = await asyncio.gather(
        *(store.script("followers_count", shard, source.entity) for shard in source.shards)
    )
    return sum(counts)
