"""Edges: which entity follows which.

All of an edge is in the follower's shard, so that the edge changes in one step with the follower's
feed. The followee's shard has only a mark for each shard with followers. The mark is set before the
first edge of its shard is made.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import chain, groupby
from operator import itemgetter

from feedsvc.core import keys
from feedsvc.core.background import CommittedWork
from feedsvc.core.concurrency import run_concurrently
from feedsvc.core.fanout import Fanout
from feedsvc.core.flips import settle
from feedsvc.core.following import Followings
from feedsvc.core.requests import record
from feedsvc.core.sources import Source, count, shards_in
from feedsvc.core.store import Arg, Store
from feedsvc.core.store_errors import NOT_AVAILABLE
from feedsvc.errors import FeedError, RequestIdReused, StoreUnavailable, TooManyFollowees

#: Most edges that one script call makes.
EDGES_A_CALL = 50
#: Most shards, and most followers in all of them, that one script call reads.
SHARDS_A_READ = 16
FOLLOWERS_A_READ = 2_000
#: Most calls of one list of followers that are under way at a time.
READS_AT_ONCE = 4
#: Edges that are decoded in one turn of the event loop.
EDGES_A_TURN = 1_000
#: Edges that a batch settles at a time.
SETTLED_AT_ONCE = 16
#: Attempts to make edges while the store loses recent writes.
ATTEMPTS = 3

#: Fields of an entity's edges that are no followees.
_OTHER_FIELDS = tuple(keys.FIELDS.values())


@dataclass(frozen=True, slots=True)
class NewEdge:
    """An edge to make or to end."""

    follower: str
    followee: str
    request_id: str = ""
    digest: bytes = b""
    """Digest of what the caller sent."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that exists."""

    follower: str
    followee: str
    position: int
    """Unix microseconds of the follow by the store's clock, made unique: orders edges by age."""
    already: bool = False
    """True if the edge existed before the call."""


@dataclass(frozen=True, slots=True, order=True)
class EdgeCursor:
    """Where a page of a list of edges begins: exclusive, and towards older edges."""

    position: int
    shard: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """The edges that one call makes, and their results so far."""

    new_edges: Sequence[NewEdge]
    results: list[Edge | FeedError]
    """By index in ``new_edges``."""
    unsettled: dict[tuple[str, str], Edge] = field(default_factory=dict)
    """By follower and followee, the edges that are PULL but need not stay so."""
    crowds: set[str] = field(default_factory=set)
    """Followees that may have become celebrities."""


class Edges:
    """The edges of a store."""

    def __init__(self, store: Store, fanout: Fanout, work: CommittedWork) -> None:
        self._store = store
        self._fanout = fanout
        self._work = work
        self._followings = Followings(store)

    async def follow(self, new_edges: Sequence[NewEdge]) -> list[Edge | FeedError]:
        """Make edges; return each edge in order, or the error that refused the edge.

        The errors are TooManyFollowees and RequestIdReused. Raise StoreUnavailable.
        """
        return await self._work.finish(self._follow(new_edges))

    async def _follow(self, new_edges: Sequence[NewEdge]) -> list[Edge | FeedError]:
        batch = _Batch(new_edges, [FeedError()] * len(new_edges))
        unmade = list(range(len(new_edges)))
        for _ in range(ATTEMPTS):
            unmade = await self._make(batch, unmade)
            if not unmade:
                break
            await self._store.greet_again()
        else:
            raise StoreUnavailable(NOT_AVAILABLE)
        slots = asyncio.Semaphore(SETTLED_AT_ONCE)

        async def settle_edge(edge: Edge) -> None:
            async with slots:
                await settle(self._store, edge.followee, [(edge.follower, edge.position)])

        await asyncio.gather(
            *map(settle_edge, batch.unsettled.values()),
            *map(self._fanout.flip_if_due, batch.crowds),
        )
        return batch.results

    async def _make(self, batch: _Batch, indexes: Sequence[int]) -> list[int]:
        """Make the edges at some indexes; return the indexes of edges that must be made again."""
        eras = list(self._store.eras)
        new_edges = batch.new_edges
        shards = {index: self._store.shard_for(new_edges[index].follower) for index in indexes}
        # Before the edge: a publish that does not see the mark was committed before the edge is
        # made, and the follower reads the outbox after that.
        modes = await self._mark(
            {(new_edges[index].followee, shard) for index, shard in shards.items()}
        )
        by_shard = sorted(indexes, key=shards.__getitem__)
        stale_indexes = await asyncio.gather(
            *(
                self._make_in_shard(
                    batch, group[first : first + EDGES_A_CALL], shard, eras[shard], modes
                )
                for shard, shard_indexes in groupby(by_shard, shards.__getitem__)
                for group in (list(shard_indexes),)
                for first in range(0, len(group), EDGES_A_CALL)
            )
        )
        return list(chain.from_iterable(stale_indexes))

    async def _make_in_shard(
        self,
        batch: _Batch,
        indexes: Sequence[int],
        shard: int,
        era: str,
        modes: Mapping[str, bytes],
    ) -> Sequence[int]:
        """Make edges from followers of one shard by one call.

        Return all indexes if the store has lost writes since ``era``, else none.
        """
        new_edges = batch.new_edges
        arguments: list[Arg] = [era]
        for index in indexes:
            new = new_edges[index]
            name, seconds = "", 0
            # The edges of a batch that have no request id are too many to be remembered.
            if new.request_id or len(new_edges) == 1:
                name, seconds = record(self._store.limits, "f", new.follower, new.request_id)
            arguments += (
                *(new.follower, new.followee, new.digest),
                *(name, seconds, modes[new.followee]),
            )
        answers = await self._store.script("follow", shard, *arguments)
        if answers == b"stale":
            return indexes
        for index, (outcome, position, hint) in zip(indexes, answers, strict=True):
            result = self._result(new_edges[index], outcome, position)
            batch.results[index] = result
            if hint == b"unsettled" and isinstance(result, Edge):
                batch.unsettled[result.follower, result.followee] = result
            elif hint == b"crowd":
                batch.crowds.add(new_edges[index].followee)
        return ()

    async def _mark(self, marks: Collection[tuple[str, int]]) -> dict[str, bytes]:
        """Mark, at each followee, the shards of its new followers; return the followees' modes."""
        by_shard: dict[int, list[tuple[str, int]]] = {}
        for followee, shard in marks:
            by_shard.setdefault(self._store.shard_for(followee), []).append((followee, shard))
        modes: dict[str, bytes] = {}

        async def mark(shard: int, pairs: list[tuple[str, int]]) -> None:
            arguments: list[Arg] = [part for pair in pairs for part in pair]
            pair_modes = await self._store.script("mark", shard, *arguments)
            modes.update(zip((followee for followee, _ in pairs), pair_modes, strict=True))

        await asyncio.gather(
            *(
                mark(shard, pairs[first : first + EDGES_A_CALL])
                for shard, pairs in by_shard.items()
                for first in range(0, len(pairs), EDGES_A_CALL)
            )
        )
        return modes

    def _result(self, new: NewEdge, outcome: bytes, position: bytes) -> Edge | FeedError:
        if outcome == b"too_many":
            limit = self._store.limits.max_followees
            return TooManyFollowees(f"an entity may follow at most {limit} others", limit)
        if outcome == b"reused":
            return RequestIdReused("this request_id was sent before to follow another entity")
        return Edge(new.follower, new.followee, int(position), already=outcome == b"already")

    async def settle(self, follower: str, followees: Collection[str]) -> None:
        """Settle PULL edges that need not be PULL: a process that died left them unsettled."""
        key = keys.edges(self._store.tag_for(follower), follower)
        positions = await self._store.call("HMGET", key, *followees)
        for followee, position in zip(followees, positions, strict=True):
            if position is not None:
                await settle(self._store, followee, [(follower, int(position))])

    async def unfollow(self, edge: NewEdge) -> bool:
        """End an edge; return whether it existed. Raise RequestIdReused."""
        outcome, existed, may_flip_back = await self._store.script(
            "unfollow",
            self._store.shard_for(edge.follower),
            edge.follower,
            edge.followee,
            edge.digest,
            *record(self._store.limits, "u", edge.follower, edge.request_id),
        )
        if outcome == b"reused":
            raise RequestIdReused("this request_id was sent before to unfollow another entity")
        if may_flip_back == b"1":
            await self._work.finish(self._fanout.flip_if_due(edge.followee))
        return bool(existed == b"1")

    async def followees(self, follower: str) -> list[str]:
        """Return all followees of an entity, in no particular order."""
        fields = await self._store.call(
            "HKEYS", keys.edges(self._store.tag_for(follower), follower)
        )
        names: list[str] = []
        for first in range(0, len(fields), EDGES_A_TURN):
            if first:
                await asyncio.sleep(0)
            names += self.names(fields[first : first + EDGES_A_TURN])
        return names

    def names(self, fields: Sequence[bytes]) -> list[str]:
        """Return the followees among the fields of an entity's edges."""
        return [name for field in fields if (name := field.decode()) not in _OTHER_FIELDS]

    async def followed_among(self, follower: str, others: Sequence[str]) -> set[str]:
        """Return the entities among ``others`` that an entity follows."""
        if not others:
            return set()
        key = keys.edges(self._store.tag_for(follower), follower)
        positions = await self._store.call("HMGET", key, *others)
        return {
            other for other, position in zip(others, positions, strict=True) if position is not None
        }

    async def followers_among(self, followee: str, others: Iterable[str]) -> set[str]:
        """Return the entities among ``others`` that follow an entity."""
        names = list(others)
        positions = await asyncio.gather(
            *(
                self._store.call("HGET", keys.edges(self._store.tag_for(other), other), followee)
                for other in names
            )
        )
        return {
            other for other, position in zip(names, positions, strict=True) if position is not None
        }

    async def counts(self, entity: str) -> tuple[int, int]:
        """Count an entity's followers and followees, each in the shards that have the edges."""
        edges = keys.edges(self._store.tag_for(entity), entity)
        fields, values = await asyncio.gather(
            self._store.call("HLEN", edges), self._store.call("HMGET", edges, *_OTHER_FIELDS)
        )
        source = Source.of(entity, values[_OTHER_FIELDS.index(keys.SHARDS)], None)
        followers = await count(self._store, source)
        return followers, fields - sum(value is not None for value in values)

    async def list_following(self, entity: str, after: EdgeCursor | None, limit: int) -> list[Edge]:
        """Return up to ``limit`` edges from an entity, newest first."""
        following = await self._followings.of(entity)
        first = 0 if after is None else bisect_right(following.ages, -after.position)
        last = first + limit
        return [
            Edge(entity, followee, -age)
            for followee, age in zip(
                following.names[first:last], following.ages[first:last], strict=True
            )
        ]

    async def list_followers(
        self, entity: str, after: EdgeCursor | None, limit: int
    ) -> list[tuple[Edge, EdgeCursor]]:
        """Return up to ``limit`` edges to an entity, newest first, with the cursor of each."""
        marks = await self._store.call(
            "HGET", keys.edges(self._store.tag_for(entity), entity), keys.SHARDS
        )
        shards = shards_in(marks or b"")
        bounds = _bounds(shards, after)
        edges: list[tuple[Edge, EdgeCursor]] = []
        # Read a few followers of each shard first, then more only of the shards that may still
        # have followers of this page.
        chunk = min(limit, 4 + 2 * limit // max(1, len(shards)))
        while bounds:
            reached: dict[int, EdgeCursor] = {}
            for shard, names_and_positions in await self._followers_of(entity, bounds, chunk):
                shard_edges = [
                    (
                        Edge(follower.decode(), entity, int(position)),
                        EdgeCursor(int(position), shard),
                    )
                    for follower, position in zip(
                        names_and_positions[::2], names_and_positions[1::2], strict=True
                    )
                ]
                edges += shard_edges
                if len(shard_edges) == chunk:
                    reached[shard] = shard_edges[-1][1]
            edges = nlargest(limit, edges, key=itemgetter(1))
            bounds = {
                shard: f"({cursor.position}"
                for shard, cursor in reached.items()
                if len(edges) < limit or cursor > edges[-1][1]
            }
            chunk = min(limit, 2 * chunk)
        return edges

    async def _followers_of(
        self, entity: str, bounds: Mapping[int, str], count: int
    ) -> list[tuple[int, list[bytes]]]:
        """Read up to ``count`` followers of an entity from each bound on; return them by shard.

        Each shard has a list of names, each followed by its edge position.
        """
        shards_a_call = max(1, min(SHARDS_A_READ, FOLLOWERS_A_READ // count))
        if self._store.cluster:
            shards_a_call = 1
        shards = list(bounds)
        parts = deque(
            shards[first : first + shards_a_call] for first in range(0, len(shards), shards_a_call)
        )
        followers: list[tuple[int, list[bytes]]] = []

        async def lane() -> None:
            while parts:
                part = parts.popleft()
                answers = await self._store.script(
                    "followers_read", part, entity, count, *(bounds[shard] for shard in part)
                )
                followers.extend(zip(part, answers, strict=True))

        await run_concurrently(lane, min(READS_AT_ONCE, len(parts)))
        return followers


def _bounds(shards: Sequence[int], after: EdgeCursor | None) -> dict[int, str]:
    """Return the greatest position to read in each shard, as sorted sets take it."""
    if after is None:
        return dict.fromkeys(shards, "+inf")
    # Of equal positions the greater shard comes first.
    return {
        shard: f"({after.position}" if shard >= after.shard else str(after.position)
        for shard in shards
    }
