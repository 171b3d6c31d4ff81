"""Fan-out: brings what was published to the outboxes and warm feeds that it belongs in.

A script works beside the data, one call for a chunk of followers. What was begun is finished
even if the caller goes away: the activity is published, and only its delivery is left.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from feedsvc.core import ids, keys
from feedsvc.core.store import Arg, Store

#: Shards that one call pushes to, where keys may be of several slots.
SHARDS_A_PUSH = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What delivering an activity came to."""

    feeds: int = 0
    """Warm feeds of followers that it was put into."""
    cold: int = 0
    """Followers whose feed is not materialised."""

    def __add__(self, other: "Delivered") -> "Delivered":
        return Delivered(self.feeds + other.feeds, self.cold + other.cold)


def shards_in(bitmap: bytes) -> list[int]:
    """The shards that a bitmap of the store names; bit 0 is the highest of the first byte."""
    return [
        8 * index + bit
        for index, byte in enumerate(bitmap)
        if byte
        for bit in range(8)
        if byte & (0x80 >> bit)
    ]


class Fanout:
    """Deliveries and retractions, and the work under way that must come to its end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work to its end whether or not the caller waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Waits until all that was begun has ended."""
        while self._running:
            await asyncio.wait(self._running)

    async def deliver(
        self, activity_id: int, actor: str | None, bitmap: bytes, to: Iterable[str]
    ) -> Delivered:
        """Brings an activity to the outboxes of ``to``, then to their followers and its actor's.

        ``actor`` is None if its own followers are not addressed; ``bitmap`` says where they are.
        """
        sources = {} if actor is None else {actor: bitmap}
        others = [entity for entity in to if entity != actor]
        if others:
            bitmaps = await asyncio.gather(
                *(
                    self._store.script("outbox_add", self._shard(entity), entity, activity_id)
                    for entity in others
                )
            )
            sources.update(zip(others, bitmaps, strict=True))
        return await self._push_all(activity_id, sources, "added")

    async def retract(self, activity_id: int, actor: str, bitmap: bytes, to: Iterable[str]) -> None:
        """Tells the live logs of all whose feed may have shown an activity that it is gone."""
        sources = {actor: bitmap}
        others = [entity for entity in to if entity != actor]
        bitmaps = await asyncio.gather(
            *(
                self._store.call(
                    "HGET",
                    keys.edges(self._store.tags[self._shard(entity)], entity),
                    keys.SHARDS,
                )
                for entity in others
            )
        )
        sources.update(
            (entity, found or b"") for entity, found in zip(others, bitmaps, strict=True)
        )
        await asyncio.gather(
            *(
                self._store.script("retract", self._shard(entity), entity, activity_id)
                for entity in sources
            ),
            self._push_all(activity_id, sources, "removed"),
        )

    async def _push_all(
        self, activity_id: int, sources: dict[str, bytes], what: Literal["added", "removed"]
    ) -> Delivered:
        together = 1 if self._store.cluster else SHARDS_A_PUSH
        pushes = []
        for source, bitmap in sources.items():
            shards = shards_in(bitmap)
            for first in range(0, len(shards), together):
                some = shards[first : first + together]
                pushes.append(self._push(some, source, activity_id, what))
        if len(pushes) == 1:
            return await pushes[0]
        return sum(await asyncio.gather(*pushes), Delivered())

    async def _push(
        self, shards: list[int], source: str, activity_id: int, what: str, position: Arg = "-inf"
    ) -> Delivered:
        """Pushes to followers in some shards, beyond a position.

        What the work budget of the one call does not do, each shard goes on with by itself.
        """
        results = await self._store.script(
            "push", shards, source, activity_id, what, *([position] * len(shards))
        )
        done = Delivered(sum(feeds for _, feeds, _ in results), sum(cold for *_, cold in results))
        left = [
            self._push([shard], source, activity_id, what, reached)
            for shard, (reached, _, _) in zip(shards, results, strict=True)
            if reached
        ]
        return sum(await asyncio.gather(*left), done) if left else done

    def _shard(self, entity: str) -> int:
        return ids.shard_for(entity, self._store.limits.shards)
