"""Edges: who follows whom.

All of an edge is in the follower's shard, so that it changes in one step with the feed beside it.
The followee's shard only knows in which shards there are followers, and knows it before the first
edge is there.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from feedsvc.core import ids, keys
from feedsvc.core.fanout import Fanout, shards_in
from feedsvc.core.outbox import merge
from feedsvc.core.store import Arg, Store
from feedsvc.errors import FeedError, RequestIdReused, TooManyFollowees

#: Edges that one script call makes at the most.
EDGES_A_CALL = 50
#: Warm feeds into which a batch merges outboxes at a time.
SETTLING = 16


@dataclass(frozen=True, slots=True)
class NewEdge:
    """An edge to make or to end."""

    follower: str
    followee: str
    request_id: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge as it stands."""

    follower: str
    followee: str
    position: int
    """Orders edges, newest greatest: when it was made, by the store's clock, in microseconds."""
    already: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a list of edges: exclusive, and towards older edges."""

    position: int
    shard: int


class Edges:
    """The edges of a store."""

    def __init__(self, store: Store, fanout: Fanout) -> None:
        self._store = store
        self._fanout = fanout

    def _shard(self, entity: str) -> int:
        return ids.shard_for(entity, self._store.limits.shards)

    def _tag(self, entity: str) -> str:
        return self._store.tags[self._shard(entity)]

    async def follow(self, wanted: Sequence[NewEdge]) -> list[Edge | FeedError]:
        """Makes edges; answers for each, in order.

        The edge, or why not: TooManyFollowees, RequestIdReused.
        """
        return await self._fanout.finish(self._follow(wanted))

    async def _follow(self, wanted: Sequence[NewEdge]) -> list[Edge | FeedError]:
        shards = [self._shard(new.follower) for new in wanted]
        # Before the edge: a publisher that does not see the bit committed before the edge was made,
        # and the follower reads the outbox after that.
        await asyncio.gather(
            *(
                self._store.call("SETBIT", keys.bitmap(self._tag(followee), followee), shard, 1)
                for followee, shard in {
                    (new.followee, shard): None for new, shard in zip(wanted, shards, strict=True)
                }
            )
        )
        results: list[Edge | FeedError] = [FeedError()] * len(wanted)
        pulled: dict[tuple[str, str], Edge] = {}

        async def make(shard: int, numbers: list[int]) -> None:
            arguments: list[Arg] = []
            for number in numbers:
                new = wanted[number]
                arguments += (
                    new.follower,
                    new.followee,
                    new.digest,
                    keys.request("f", new.follower, new.request_id),
                    self._store.limits.request_ttl,
                )
            answers = await self._store.script("follow", shard, *arguments)
            for number, (outcome, position, mode) in zip(numbers, answers, strict=True):
                results[number] = result = self._result(wanted[number], outcome, position)
                if mode == b"pull" and isinstance(result, Edge):
                    pulled[result.follower, result.followee] = result

        by_shard = sorted(range(len(wanted)), key=shards.__getitem__)
        await asyncio.gather(
            *(
                make(shard, group[first : first + EDGES_A_CALL])
                for shard, numbers in groupby(by_shard, shards.__getitem__)
                for group in (list(numbers),)
                for first in range(0, len(group), EDGES_A_CALL)
            )
        )
        slots = asyncio.Semaphore(SETTLING)

        async def settle(edge: Edge) -> None:
            async with slots:
                await self._settle(edge.follower, edge.followee, edge.position)

        await asyncio.gather(*(settle(edge) for edge in pulled.values()))
        return results

    def _result(self, new: NewEdge, outcome: bytes, position: bytes) -> Edge | FeedError:
        if outcome == b"too_many":
            limit = self._store.limits.max_followees
            return TooManyFollowees(f"an entity may follow at most {limit} others", limit)
        if outcome == b"reused":
            return RequestIdReused("this request_id was sent before to follow another entity")
        return Edge(new.follower, new.followee, int(position), already=outcome == b"already")

    async def _settle(self, follower: str, followee: str, position: int) -> None:
        """Merges an outbox into a warm feed and flips the edge to PUSH.

        Dying before leaves the edge PULL: every read merges the outbox, which is slower and as
        right.
        """
        limits = self._store.limits
        newest = await merge(
            self._store,
            [followee],
            older=True,
            cursor=None,
            count=limits.feed_cap + limits.feed_slack + 1,
        )
        await self._store.script(
            "settle",
            self._shard(follower),
            follower,
            followee,
            position,
            newest.floor,
            *reversed(newest.ids),
        )

    async def settle(self, follower: str, followees: Collection[str]) -> None:
        """Settles PULL edges that a process left behind when it died."""
        key = keys.edges(self._tag(follower), follower)
        positions = await self._store.call("ZMSCORE", key, *followees)
        for followee, position in zip(followees, positions, strict=True):
            if position is not None:
                await self._settle(follower, followee, int(position))

    async def unfollow(self, edge: NewEdge) -> bool:
        """Ends an edge; says whether there was one. Raises RequestIdReused."""
        outcome, there = await self._store.script(
            "unfollow",
            self._shard(edge.follower),
            edge.follower,
            edge.followee,
            edge.digest,
            keys.request("u", edge.follower, edge.request_id),
            self._store.limits.request_ttl,
        )
        if outcome == b"reused":
            raise RequestIdReused("this request_id was sent before to unfollow another entity")
        return bool(there == b"1")

    async def followees(self, follower: str) -> list[str]:
        """All that an entity follows, in no useful order."""
        found = await self._store.call("ZRANGE", keys.edges(self._tag(follower), follower), 0, -1)
        return [name.decode() for name in found if name]

    async def followed_among(self, follower: str, others: Sequence[str]) -> set[str]:
        """Those of ``others`` that an entity follows."""
        if not others:
            return set()
        key = keys.edges(self._tag(follower), follower)
        scores = await self._store.call("ZMSCORE", key, *others)
        return {other for other, score in zip(others, scores, strict=True) if score is not None}

    async def followers_among(self, followee: str, others: Iterable[str]) -> set[str]:
        """Those of ``others`` that follow an entity."""
        names = list(others)
        scores = await asyncio.gather(
            *(
                self._store.call("ZSCORE", keys.edges(self._tag(other), other), followee)
                for other in names
            )
        )
        return {other for other, score in zip(names, scores, strict=True) if score is not None}

    async def counts(self, entity: str) -> tuple[int, int]:
        """How many follow an entity, and how many it follows; counted where the edges are."""
        edges = keys.edges(self._tag(entity), entity)
        bitmap, following, has_generation = await asyncio.gather(
            self._store.call("GET", keys.bitmap(self._tag(entity), entity)),
            self._store.call("ZCARD", edges),
            self._store.call("ZSCORE", edges, ""),
        )
        counts = await asyncio.gather(
            *(
                self._store.call("ZCARD", keys.followers(self._store.tags[shard], entity))
                for shard in shards_in(bitmap or b"")
            )
        )
        return sum(counts), following - (has_generation is not None)

    async def list_following(self, entity: str, after: Place | None, count: int) -> list[Edge]:
        """Up to ``count`` edges from an entity, newest first."""
        key = keys.edges(self._tag(entity), entity)
        found = await self._newest(
            key, "+inf" if after is None else f"({after.position}", count + 1
        )
        return [Edge(entity, name, position) for name, position in found if name][:count]

    async def list_followers(
        self, entity: str, after: Place | None, count: int
    ) -> list[tuple[Edge, Place]]:
        """Up to ``count`` edges to an entity, newest first, with the place of each."""
        bitmap = await self._store.call("GET", keys.bitmap(self._tag(entity), entity))

        async def of_shard(shard: int) -> list[tuple[Edge, Place]]:
            bound = "+inf"
            if after is not None:
                # Of equal positions the greater shard comes first.
                bound = f"({after.position}" if shard >= after.shard else str(after.position)
            found = await self._newest(
                keys.followers(self._store.tags[shard], entity), bound, count
            )
            return [
                (Edge(name, entity, position), Place(position, shard)) for name, position in found
            ]

        parts = await asyncio.gather(*(of_shard(shard) for shard in shards_in(bitmap or b"")))
        merged = sorted(
            (edge for part in parts for edge in part), key=lambda edge: edge[1], reverse=True
        )
        return merged[:count]

    async def _newest(self, key: str, bound: str, count: int) -> list[tuple[str, int]]:
        flat = await self._store.call(
            "ZREVRANGEBYSCORE", key, bound, "-inf", "WITHSCORES", "LIMIT", 0, count
        )
        return [
            (name.decode(), int(score)) for name, score in zip(flat[::2], flat[1::2], strict=True)
        ]
