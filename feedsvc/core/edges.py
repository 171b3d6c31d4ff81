"""Edges: who follows whom.

All of an edge is in the follower's shard, so that it changes in one step with the feed beside it.
The followee's shard only knows in which shards there are followers, and knows it before the first
edge is there.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby
from operator import itemgetter

from feedsvc.core import ids, keys
from feedsvc.core.fanout import Fanout
from feedsvc.core.flips import settle
from feedsvc.core.following import Followings
from feedsvc.core.requests import record
from feedsvc.core.sources import Source, count, shards_in
from feedsvc.core.store import Arg, Store
from feedsvc.core.tasks import in_lanes
from feedsvc.errors import FeedError, RequestIdReused, StoreUnavailable, TooManyFollowees

#: Edges that one script call makes at the most.
EDGES_A_CALL = 50
#: Shards, and followers in all of them, that one script call reads at the most.
SHARDS_A_READ = 16
FOLLOWERS_A_READ = 2_000
#: Such calls that one list waits for at a time.
READS_AT_ONCE = 4
#: Edges that are looked at in one turn of the event loop.
EDGES_A_TURN = 1_000
_OTHER_FIELDS = tuple(keys.FIELDS.values())
#: Warm feeds into which a batch merges outboxes at a time.
SETTLING = 16
#: Times that edges are made anew because the store lost its last writes meanwhile.
AGAIN = 3


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
        self._followings = Followings(store)

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
        results: list[Edge | FeedError] = [FeedError()] * len(wanted)
        unsettled: dict[tuple[str, str], Edge] = {}
        crowds: set[str] = set()
        left = list(range(len(wanted)))
        for _ in range(AGAIN):
            left = await self._make(wanted, left, results, unsettled, crowds)
            if not left:
                break
            await self._store.greet_again()
        else:
            raise StoreUnavailable("the store is not available")
        slots = asyncio.Semaphore(SETTLING)

        async def one(edge: Edge) -> None:
            async with slots:
                await settle(self._store, edge.followee, [(edge.follower, edge.position)])

        await asyncio.gather(
            *(one(edge) for edge in unsettled.values()),
            *(self._fanout.consider(followee) for followee in crowds),
        )
        return results

    async def _make(
        self,
        wanted: Sequence[NewEdge],
        chosen: Sequence[int],
        results: list[Edge | FeedError],
        unsettled: dict[tuple[str, str], Edge],
        crowds: set[str],
    ) -> list[int]:
        """Makes some of the edges; those that are to be made again."""
        eras, limits = list(self._store.eras), self._store.limits
        shards = {number: self._shard(wanted[number].follower) for number in chosen}
        # Before the edge: a publisher that does not see the mark committed before the edge was
        # made, and the follower reads the outbox after that.
        modes = await self._mark({(wanted[one].followee, shard) for one, shard in shards.items()})
        stale: list[int] = []

        async def make(shard: int, numbers: list[int]) -> None:
            arguments: list[Arg] = [eras[shard]]
            for number in numbers:
                new = wanted[number]
                name, seconds = "", 0
                # Of a batch the edges without a request id are too many to be remembered.
                if new.request_id or len(wanted) == 1:
                    name, seconds = record(limits, "f", new.follower, new.request_id)
                arguments += (
                    *(new.follower, new.followee, new.digest),
                    *(name, seconds, modes[new.followee]),
                )
            answers = await self._store.script("follow", shard, *arguments)
            if answers == b"stale":
                stale.extend(numbers)
                return
            for number, (outcome, position, hint) in zip(numbers, answers, strict=True):
                results[number] = result = self._result(wanted[number], outcome, position)
                if hint == b"unsettled" and isinstance(result, Edge):
                    unsettled[result.follower, result.followee] = result
                elif hint == b"crowd":
                    crowds.add(wanted[number].followee)

        by_shard = sorted(chosen, key=shards.__getitem__)
        await asyncio.gather(
            *(
                make(shard, group[first : first + EDGES_A_CALL])
                for shard, numbers in groupby(by_shard, shards.__getitem__)
                for group in (list(numbers),)
                for first in range(0, len(group), EDGES_A_CALL)
            )
        )
        return stale

    async def _mark(self, wanted: Collection[tuple[str, int]]) -> dict[str, bytes]:
        """Notes at followees in which shards they have followers; the mode of each."""
        by_shard: dict[int, list[tuple[str, int]]] = {}
        for followee, shard in wanted:
            by_shard.setdefault(self._shard(followee), []).append((followee, shard))
        modes: dict[str, bytes] = {}

        async def mark(shard: int, pairs: list[tuple[str, int]]) -> None:
            arguments: list[Arg] = []
            for pair in pairs:
                arguments += pair
            found = await self._store.script("mark", shard, *arguments)
            modes.update(zip((followee for followee, _ in pairs), found, strict=True))

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
        """Flips PULL edges that need not be: a process left them behind when it died."""
        key = keys.edges(self._tag(follower), follower)
        positions = await self._store.call("HMGET", key, *followees)
        for followee, position in zip(followees, positions, strict=True):
            if position is not None:
                await settle(self._store, followee, [(follower, int(position))])

    async def unfollow(self, edge: NewEdge) -> bool:
        """Ends an edge; says whether there was one. Raises RequestIdReused."""
        outcome, there, left = await self._store.script(
            "unfollow",
            self._shard(edge.follower),
            edge.follower,
            edge.followee,
            edge.digest,
            *record(self._store.limits, "u", edge.follower, edge.request_id),
        )
        if outcome == b"reused":
            raise RequestIdReused("this request_id was sent before to unfollow another entity")
        if left == b"1":
            await self._fanout.finish(self._fanout.consider(edge.followee))
        return bool(there == b"1")

    async def followees(self, follower: str) -> list[str]:
        """All that an entity follows, in no useful order."""
        fields = await self._store.call("HKEYS", keys.edges(self._tag(follower), follower))
        names: list[str] = []
        for first in range(0, len(fields), EDGES_A_TURN):
            if first:
                await asyncio.sleep(0)
            names += self.names(fields[first : first + EDGES_A_TURN])
        return names

    def names(self, fields: Sequence[bytes]) -> list[str]:
        """The followees among the fields of an entity's edges."""
        return [name for one in fields if (name := one.decode()) not in _OTHER_FIELDS]

    async def followed_among(self, follower: str, others: Sequence[str]) -> set[str]:
        """Those of ``others`` that an entity follows."""
        if not others:
            return set()
        key = keys.edges(self._tag(follower), follower)
        found = await self._store.call("HMGET", key, *others)
        return {other for other, edge in zip(others, found, strict=True) if edge is not None}

    async def followers_among(self, followee: str, others: Iterable[str]) -> set[str]:
        """Those of ``others`` that follow an entity."""
        names = list(others)
        found = await asyncio.gather(
            *(
                self._store.call("HGET", keys.edges(self._tag(other), other), followee)
                for other in names
            )
        )
        return {other for other, edge in zip(names, found, strict=True) if edge is not None}

    async def counts(self, entity: str) -> tuple[int, int]:
        """How many follow an entity, and how many it follows; counted where the edges are."""
        edges = keys.edges(self._tag(entity), entity)
        fields, others = await asyncio.gather(
            self._store.call("HLEN", edges), self._store.call("HMGET", edges, *_OTHER_FIELDS)
        )
        source = Source.of(entity, others[_OTHER_FIELDS.index(keys.SHARDS)], None)
        followers = await count(self._store, source)
        return followers, fields - sum(other is not None for other in others)

    async def list_following(self, entity: str, after: Place | None, most: int) -> list[Edge]:
        """Up to ``most`` edges from an entity, newest first."""
        following = await self._followings.of(entity)
        first = 0 if after is None else bisect_right(following.ages, -after.position)
        last = first + most
        return [
            Edge(entity, name, -age)
            for name, age in zip(
                following.names[first:last], following.ages[first:last], strict=True
            )
        ]

    async def list_followers(
        self, entity: str, after: Place | None, most: int
    ) -> list[tuple[Edge, Place]]:
        """Up to ``most`` edges to an entity, newest first, with the place of each."""
        bitmap = await self._store.call("HGET", keys.edges(self._tag(entity), entity), keys.SHARDS)
        shards = shards_in(bitmap or b"")
        bounds = dict.fromkeys(shards, "+inf")
        if after is not None:
            # Of equal positions the greater shard comes first.
            for shard in shards:
                bounds[shard] = (
                    f"({after.position}" if shard >= after.shard else str(after.position)
                )
        found: list[tuple[Edge, Place]] = []
        # A few of each shard at first, more only of those that matter.
        chunk = min(most, 4 + 2 * most // max(1, len(shards)))
        while bounds:
            reached: dict[int, Place] = {}
            for shard, flat in await self._followers_of(entity, bounds, chunk):
                some = [
                    (Edge(name.decode(), entity, int(position)), Place(int(position), shard))
                    for name, position in zip(flat[::2], flat[1::2], strict=True)
                ]
                found += some
                if len(some) == chunk:
                    reached[shard] = some[-1][1]
            found = nlargest(most, found, key=itemgetter(1))
            bounds = {
                shard: f"({place.position}"
                for shard, place in reached.items()
                if len(found) < most or place > found[-1][1]
            }
            chunk = min(most, 2 * chunk)
        return found

    async def _followers_of(
        self, entity: str, bounds: dict[int, str], count: int
    ) -> list[tuple[int, list[bytes]]]:
        """By shard, so many followers of an entity from a bound on, and their positions."""
        together = (
            1 if self._store.cluster else max(1, min(SHARDS_A_READ, FOLLOWERS_A_READ // count))
        )
        shards = list(bounds)
        parts = deque(shards[first : first + together] for first in range(0, len(shards), together))
        found: list[tuple[int, list[bytes]]] = []

        async def lane() -> None:
            while parts:
                some = parts.popleft()
                answers = await self._store.script(
                    "followers_read", some, entity, count, *(bounds[shard] for shard in some)
                )
                found.extend(zip(some, answers, strict=True))

        await in_lanes(lane, min(READS_AT_ONCE, len(parts)))
        return found
