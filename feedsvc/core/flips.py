"""Flips: an entity with very many followers is not pushed to them; they read its outbox.

The entity's shard holds its mode, which decides whether its activities are pushed. Each shard with
followers holds the mode of its edges too, with the epoch of the flip, because new edges are made
there. Towards PULL, all edges are flipped before the pushes end. Back to PUSH, the pushes begin
before the first edge is flipped. So each follower gets every activity by push, by pull, or by both.
"""

import asyncio
from collections.abc import Mapping, Sequence

from feedsvc.core import keys
from feedsvc.core.outbox import Outboxes
from feedsvc.core.sources import Source, count
from feedsvc.core.store import Arg, Store

#: Most warm feeds into which one call of ``settle`` merges an outbox at a time.
SETTLED_AT_ONCE = 4


async def begin_if_due(store: Store, source: Source) -> tuple[int, bool]:
    """Count an entity's followers, and begin to flip their edges if the number calls for it.

    Return the number, and whether a flip has begun.
    """
    limits = store.limits
    followers = await count(store, source)
    if limits.celebrity_threshold and followers >= limits.celebrity_threshold:
        wanted, is_due = "pull", source.pushed
    elif not limits.celebrity_threshold or followers < limits.celebrity_lower:
        wanted, is_due = "push", source.pulled
    else:
        return followers, False
    if not is_due:
        return followers, False
    shard = store.shard_for(source.entity)
    return followers, bool(await store.script("flip_begin", shard, source.entity, wanted))


async def flip(
    store: Store, source: Source, epoch: int, positions: Mapping[int, str], budget: int
) -> list[tuple[str, int]]:
    """Flip a chunk of the edges in some shards, beyond a position in each.

    Return, for each shard, the position to continue after, empty when all edges are flipped, and
    the number of edges of this chunk.
    """
    results = await store.script(
        *("flip", list(positions), source.entity, epoch),
        *("pull" if source.becomes_pulled else "push", budget, *positions.values()),
    )
    warm_edges = [
        (follower.decode(), int(edge_position))
        for _, _, *names_and_positions in results
        for follower, edge_position in zip(
            names_and_positions[::2], names_and_positions[1::2], strict=True
        )
    ]
    await settle(store, source.entity, warm_edges)
    return [(position.decode(), edge_count) for position, edge_count, *_ in results]


async def settle(store: Store, followee: str, edges: Sequence[tuple[str, int]]) -> None:
    """Merge a followee's outbox into warm feeds, and turn their edges from PULL into PUSH.

    ``edges`` are followers and the positions of their edges. A process that dies meanwhile leaves
    edges PULL: every read then merges the outbox, which is slower but right.
    """
    if not edges:
        return
    limits = store.limits

    async def read_mode(follower: str) -> bytes:
        return await store.call("HGET", keys.celebrities(store.tag_for(follower)), followee) or b""

    # Before the outbox is read: after a flip the mode decides whether an activity is pushed.
    modes = await asyncio.gather(*(read_mode(follower) for follower, _ in edges))
    newest = await Outboxes(store).merge(
        [followee], older=True, cursor=None, count=limits.feed_cap + limits.feed_slack + 1
    )
    slots = asyncio.Semaphore(SETTLED_AT_ONCE)

    async def settle_edge(edge: tuple[str, int], mode: bytes) -> None:
        async with slots:
            follower, edge_position = edge
            arguments: list[Arg] = [follower, followee, edge_position, mode, newest.floor]
            arguments += reversed(newest.ids)
            await store.script("settle", store.shard_for(follower), *arguments)

    await asyncio.gather(*map(settle_edge, edges, modes))
