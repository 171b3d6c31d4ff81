"""Flips: an entity with very many followers is not pushed to them; they read its outbox.

Its mode is in its own shard and decides whether what it publishes is pushed. Whether the edges of a
shard are to stay PULL is in that shard, under the epoch of the flip, because it must be known where
edges are made. Towards PULL all edges are flipped before the pushing ends; back, the pushing begins
before the first edge is flipped. So each follower gets everything one way or the other, or both.
"""

import asyncio
from collections.abc import Mapping, Sequence

from feedsvc.core import ids, keys
from feedsvc.core.outbox import Outboxes
from feedsvc.core.sources import Source, count
from feedsvc.core.store import Arg, Store

#: Warm feeds into which an outbox is merged at a time.
SETTLING = 4


async def begin_if_due(store: Store, source: Source) -> tuple[int, bool]:
    """Counts an entity's followers; and whether that began to flip their edges."""
    limits = store.limits
    followers = await count(store, source)
    if limits.celebrity_threshold and followers >= limits.celebrity_threshold:
        wanted, now = "pull", source.mode[:1] in ("", "U")
    elif not limits.celebrity_threshold or followers < limits.celebrity_lower:
        wanted, now = "push", source.pulled
    else:
        return followers, False
    if not now:
        return followers, False
    shard = ids.shard_for(source.entity, limits.shards)
    return followers, bool(await store.script("flip_begin", shard, source.entity, wanted))


async def flip(
    store: Store, source: Source, epoch: int, places: Mapping[int, str], budget: int
) -> list[tuple[str, int]]:
    """Flips a chunk of the edges in some shards, beyond a place in each.

    For each shard the place to go on after, empty when all are flipped, and how many it were.
    """
    pull = source.mode.startswith((">", "P"))
    results = await store.script(
        *("flip", list(places), source.entity, epoch, "pull" if pull else "push", budget),
        *places.values(),
    )
    warm = [
        (follower.decode(), int(position))
        for _, _, *flat in results
        for follower, position in zip(flat[::2], flat[1::2], strict=True)
    ]
    await settle(store, source.entity, warm)
    return [(place.decode(), seen) for place, seen, *_ in results]


async def settle(store: Store, followee: str, edges: Sequence[tuple[str, int]]) -> None:
    """Merges an outbox into warm feeds and flips their edges, (follower, position), to PUSH.

    The positions were read before. Dying meanwhile leaves edges PULL: every read merges the outbox,
    which is slower and as right.
    """
    if not edges:
        return
    limits = store.limits

    async def said(follower: str) -> bytes:
        tag = store.tags[ids.shard_for(follower, limits.shards)]
        return await store.call("HGET", keys.celebrities(tag), followee) or b""

    # Before the outbox is read: what is published after a flip is pushed, or not, by what it said.
    before = await asyncio.gather(*(said(follower) for follower, _ in edges))
    newest = await Outboxes(store).merge(
        [followee], older=True, cursor=None, count=limits.feed_cap + limits.feed_slack + 1
    )
    slots = asyncio.Semaphore(SETTLING)

    async def one(edge: tuple[str, int], celebrity: bytes) -> None:
        async with slots:
            follower, position = edge
            shard = ids.shard_for(follower, limits.shards)
            arguments: list[Arg] = [follower, followee, position, celebrity, newest.floor]
            await store.script("settle", shard, *arguments, *reversed(newest.ids))

    await asyncio.gather(*(one(*pair) for pair in zip(edges, before, strict=True)))
