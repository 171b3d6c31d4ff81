"""Feeds: reading pages, materialising, verifying.

A feed is a query: the merge of the outboxes of all that a user follows, and its own. What is stored
of it, the packed list of its newest ids, is a cache. Every read is right in whatever state the
cache is.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from heapq import nlargest
from operator import itemgetter
from typing import Literal

from feedsvc.bounds import fitting
from feedsvc.core import ids, keys
from feedsvc.core.activities import Activities
from feedsvc.core.edges import Edges
from feedsvc.core.fanout import Fanout
from feedsvc.core.outbox import Merged, Outboxes, Tally
from feedsvc.core.store import Arg, Store
from feedsvc.core.streams import Log
from feedsvc.core.tasks import retrieved
from feedsvc.errors import StoreUnavailable

State = Literal["cold", "building", "warm"]

#: How often VerifyFeed reads again before it calls something a difference, and the seconds between.
VERIFY_READS = 5
VERIFY_SECONDS = 0.2
#: Ids of the query that it reads at a time.
VERIFIED_A_READ = 1_000
#: PULL edges left behind by a dead process that one read settles.
SETTLED_A_READ = 8

#: Edges up to which a page below the warm feed reads all outboxes; above, it has a deep segment
#: built.
FEW_EDGES = 40
#: Ids that a deep segment holds, and the seconds for which it is kept.
DEEP_IDS = 2_000
DEEP_SECONDS = 300
#: Of the outboxes that hold the most, so many are left out of a segment and read for each page.
LEFT_OUT = 16
#: Segments that one page may go through.
SEGMENTS_A_READ = 3
#: Builds of a segment that a read joins or begins until it asks the outboxes.
BUILDS_A_READ = 2


class End(Enum):
    """Why a walk ends at a page."""

    MORE = "more"
    """It does not."""
    FEED = "feed"
    """There is nothing older."""
    RETENTION = "retention"
    """What was older has been trimmed."""
    NEWEST = "newest"
    """There is nothing newer, now."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: exclusive, and the direction of the walk."""

    older: bool = True
    id: int | None = None
    """None, only when older: the top."""


@dataclass(slots=True)
class Page:
    """A page of a feed or an outbox."""

    items: list[tuple[int, bytes]]
    """Ids and bodies, newest first."""
    older: int | None
    """Continue towards older ids from here; None: the end."""
    newer: int
    """Continue towards newer ids from here."""
    end: End
    incomplete_below: int | None = None
    log_tail: str = ""
    """The end of the live log when the page was read; empty if the user is not live."""


@dataclass(slots=True)
class Slice:
    """Ids beyond a cursor, nearest first, before it is known which of them are still there."""

    ids: list[int]
    exhausted: bool
    floor: int = 0
    """Below this id some outbox that was looked at was trimmed; 0: none was."""
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """An activity in which a stored feed differs from the query."""

    kind: Literal["missing", "extra", "misplaced"]
    id: int


@dataclass(frozen=True, slots=True)
class Verified:
    state: State
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stats:
    """What is stored of a feed."""

    state: State
    entries: int
    floor: int
    bytes: int
    expires_ms: int
    following: int
    pulled: int
    live: bool


@dataclass(slots=True)
class _Stored:
    """What a slice read found in the user's shard."""

    state: State
    floor: int
    log_tail: str
    pulled: list[str]
    unsettled: list[str]
    """Those of them whose edges need not be PULL."""
    ids: list[int]


@dataclass(slots=True)
class _Segment:
    """A slice of a deep segment: see ``lua/lib/feed.lua``."""

    floor: int
    ceiling: int
    outbox_floor: int
    live: list[str]
    """The entities whose outboxes are to be merged with it."""
    ids: list[int]


def _direction(at: Cursor) -> str:
    return "older" if at.older else "newer"


class Feeds:
    """The feeds of a store."""

    def __init__(self, store: Store, activities: Activities, edges: Edges, fanout: Fanout) -> None:
        self._store = store
        self._activities = activities
        self._edges = edges
        self._fanout = fanout
        self._outboxes = Outboxes(store)
        self._builds: dict[str, asyncio.Task[int]] = {}
        self._deepening: dict[str, asyncio.Task[bool]] = {}

    def _shard(self, user: str) -> int:
        return ids.shard_for(user, self._store.limits.shards)

    def _stored_key(self, user: str) -> str:
        shard = self._shard(user)
        return keys.feed(self._store.tags[shard], user, self._store.incarnations[shard])

    async def page(self, user: str, cursor: Cursor, size: int) -> Page:
        """A page of a user's feed."""
        return await self._collect(lambda at, count: self._slice(user, at, count), cursor, size)

    async def outbox_page(
        self, entity: str, log: Log, cursor: Cursor, size: int, keep: Callable[[bytes], bool]
    ) -> Page:
        """A page of an entity's outbox, of those activities that ``keep`` wants by their body.

        ``log`` is the outbox's; where it ends is read before the outbox.
        """
        log_tail = await self._log_tail(log)

        async def outbox_slice(at: Cursor, count: int) -> Slice:
            found = await self._outboxes.merge([entity], older=at.older, cursor=at.id, count=count)
            return Slice(found.ids, found.exhausted, found.floor, log_tail)

        return await self._collect(outbox_slice, cursor, size, keep)

    async def _log_tail(self, log: Log) -> str:
        """The place at the end of a log; empty: there is none."""
        tag, incarnation = self._store.tags[log.shard], self._store.incarnations[log.shard]
        key = keys.log(tag, log.name, incarnation)
        last = await self._store.call("XREVRANGE", key, "+", "-", "COUNT", 1)
        return last[0][0].decode() if last else ""

    async def _collect(
        self,
        next_slice: Callable[[Cursor, int], Awaitable[Slice]],
        cursor: Cursor,
        size: int,
        keep: Callable[[bytes], bool] | None = None,
    ) -> Page:
        """A page of ``size`` activities that are still there; slices are read until it is full.

        One more than the page is looked for: only a live one means that there is more. After
        ``read_work`` ids, or at ``bounds.PAGE_BYTES``, the page is cut short, with a place to
        continue from.
        """
        items: list[tuple[int, bytes]] = []
        first: Slice | None = None
        at, looked, floor, exhausted = cursor, 0, 0, False
        while len(items) <= size and not exhausted and looked < self._store.limits.read_work:
            part = await next_slice(at, size + 1 - len(items))
            first = first or part
            bodies = await self._activities.bodies(part.ids)
            items += [
                (activity_id, body)
                for activity_id, body in zip(part.ids, bodies, strict=True)
                if body is not None and (keep is None or keep(body))
            ]
            looked += len(part.ids)
            floor, exhausted = max(floor, part.floor), part.exhausted
            if part.ids:
                at = Cursor(cursor.older, part.ids[-1])
        most = min(size, fitting(len(body) for _, body in items))
        more = len(items) > most
        items = items[:most]
        if more:
            at = Cursor(cursor.older, items[-1][0])
        end = End.MORE
        if exhausted and not more:
            end = End.NEWEST if not cursor.older else End.RETENTION if floor else End.FEED
        if not cursor.older:
            items.reverse()
        # What a walk the other way begins with: the edge that this page has not looked beyond.
        start = cursor.id or 0
        if cursor.older:
            older = at.id if end is End.MORE else None
            top = first.ids[0] if first and first.ids else 0
            newer = items[0][0] if items else (start - 1 if start else top)
        else:
            older = items[-1][0] if items else start + 1
            # At the newest it is the last one that is there: what was deleted above it may yet get
            # something below. A walk that is cut short goes on behind what it has looked at.
            newer = at.id or 0
            if end is End.NEWEST:
                newer = items[0][0] if items else start
        lowest = items[-1][0] if items else at.id or 0
        return Page(
            items,
            older,
            newer,
            end,
            floor if floor and (lowest <= floor or end in (End.FEED, End.RETENTION)) else None,
            first.log_tail if first else "",
        )

    async def _slice(self, user: str, at: Cursor, count: int) -> Slice:
        stored = await self._stored(user, at, count)
        if stored.state == "cold":
            await self._build_once(user)
            stored = await self._stored(user, at, count)
        if stored.state != "warm":
            truth = await self._query(user, at, count)
            return Slice(truth.ids, truth.exhausted, truth.floor, stored.log_tail)
        if not at.older and (at.id or 0) < stored.floor:
            deep = await self._below(user, at, count)
            return Slice(deep.ids, deep.exhausted, deep.floor, stored.log_tail)
        found, floor = stored.ids, 0
        if stored.pulled:
            found, floor = await self._with_pulled(user, stored, at, count)
            if not at.older and (at.id or 0) < stored.floor:
                deep = await self._below(user, at, count)
                return Slice(deep.ids, deep.exhausted, deep.floor, stored.log_tail)
        exhausted = len(found) < count
        if at.older and exhausted and stored.floor:
            # Below the floor only the outboxes know.
            below = stored.floor + 1 if at.id is None else min(at.id, stored.floor + 1)
            rest = await self._below(user, Cursor(older=True, id=below), count - len(found))
            found, exhausted, floor = found + rest.ids, rest.exhausted, rest.floor
        return Slice(found, exhausted, floor, stored.log_tail)

    async def _with_pulled(
        self, user: str, stored: _Stored, at: Cursor, count: int
    ) -> tuple[list[int], int]:
        """The stored slice merged with the outboxes of PULL edges, and the floor of these.

        What is stored may hold ids from before a followee was flipped, which its outbox has let go
        since: below the floor of any of these outboxes nothing that is stored is relied on.
        """
        pulled = await self._outboxes.merge(
            stored.pulled, older=at.older, cursor=at.id, count=count
        )
        stored.floor = max(stored.floor, pulled.floor)
        both = {one for one in (*stored.ids, *pulled.ids) if one > stored.floor}
        if stored.unsettled:
            with suppress(StoreUnavailable):  # the store refuses writes: they stay PULL
                await self._edges.settle(user, stored.unsettled[:SETTLED_A_READ])
        return sorted(both, reverse=at.older)[:count], pulled.floor

    async def _stored(self, user: str, at: Cursor, count: int) -> _Stored:
        state, head, log_tail, pulled, unsettled, found = await self._store.script(
            "feed_read",
            self._shard(user),
            user,
            _direction(at),
            "" if at.id is None else at.id,
            count,
        )
        warm = state == b"warm"
        return _Stored(
            state.decode(),
            int(head) if warm else 0,
            log_tail.decode(),
            [name.decode() for name in pulled],
            [name.decode() for name in unsettled],
            [int(one) for one in found],
        )

    async def _query(
        self, user: str, at: Cursor, count: int, followees: list[str] | None = None
    ) -> Merged:
        """The truth: the merge of the outboxes; ``followees`` are all, if they are known."""
        if followees is None:
            followees = await self._edges.followees(user)
        sources = [user, *followees]
        return await self._outboxes.merge(sources, older=at.older, cursor=at.id, count=count)

    async def _below(self, user: str, at: Cursor, count: int) -> Merged:
        """The query where the warm feed cannot answer it, by the deep segment if there is one."""
        found: list[int] = []
        floor = 0
        for _ in range(SEGMENTS_A_READ):
            wanted = count - len(found)
            segment = await self._segment(user, at, wanted)
            if not isinstance(segment, _Segment):
                rest = await self._query(user, at, wanted, segment)
                return Merged(found + rest.ids, rest.exhausted, max(floor, rest.floor))
            live = await self._outboxes.merge(
                segment.live, older=at.older, cursor=at.id, count=wanted
            )
            floor = max(floor, live.floor, segment.outbox_floor)
            both = {*segment.ids, *live.ids}
            if ended := len(segment.ids) < wanted:
                both = {one for one in both if segment.floor < one <= segment.ceiling}
            found += sorted(both, reverse=at.older)[:wanted]
            if len(found) == count or (ended and at.older and not segment.floor):
                return Merged(found, len(found) < count, floor)
            if not at.older:
                above = Cursor(older=False, id=segment.ceiling)
                further = await self._slice(user, above, count - len(found))
                return Merged(found + further.ids, further.exhausted, max(floor, further.floor))
            at = Cursor(older=True, id=segment.floor + 1)
        rest = await self._query(user, at, count - len(found))
        return Merged(found + rest.ids, rest.exhausted, max(floor, rest.floor))

    async def _segment(self, user: str, at: Cursor, count: int) -> _Segment | list[str] | None:
        """A slice of the deep segment, which is built if there is none here.

        Or all that the user follows, if that is little; or None: the outboxes have to be asked.
        """
        shard = self._shard(user)
        cursor = at.id or 0
        for attempt in range(
            BUILDS_A_READ + 1
        ):  # the first build that it joins may be for another place
            kind, *found = await self._store.script(
                *("deep_read", shard, user, _direction(at)),
                *(cursor, cursor - 1, count, FEW_EDGES),
            )
            if kind == b"few":
                return self._edges.names(found)
            if kind == b"segment":
                floor, ceiling, outbox_floor, sources, pulled, some = found
                return _Segment(
                    int(floor),
                    int(ceiling),
                    int(outbox_floor),
                    list({name.decode() for name in (*sources, *pulled)}),
                    [int(one) for one in some],
                )
            if attempt == BUILDS_A_READ or not await self._deepen_once(user, at):
                break
        return None

    async def _deepen_once(self, user: str, at: Cursor) -> bool:
        """Builds a deep segment, or joins a build of this process; whether there may be one now."""
        task = self._deepening.get(user)
        if task is None:
            if len(self._deepening) >= self._store.limits.max_builds:
                return False
            task = asyncio.create_task(self._fanout.finish(self._deepen(user, at)))
            self._deepening[user] = task
            task.add_done_callback(lambda ended: self._deepened(user, ended))
        try:
            return await asyncio.shield(task)
        except StoreUnavailable:
            return False  # it refuses writes, or the outboxes cannot be read either

    def _deepened(self, user: str, task: asyncio.Task[bool]) -> None:
        self._deepening.pop(user, None)
        retrieved(task)

    async def _deepen(self, user: str, at: Cursor) -> bool:
        """Builds the deep segment that begins at a cursor; whether there is one now."""
        shard, nonce, cursor = self._shard(user), secrets.token_hex(8), at.id or 0
        state, *begun = await self._store.script(
            "deep_begin", shard, user, nonce, _direction(at), cursor, cursor - 1
        )
        if state != b"begun":
            return bool(state == b"there")
        generation, length, limit, *pulled = begun
        # From here on: what is delivered late, trimmed, flipped, followed or unfollowed is told.
        names = {user, *await self._edges.followees(user)}
        names.difference_update(name.decode() for name in pulled)
        tally = Tally()
        merged = await self._outboxes.merge(
            names, older=at.older, cursor=cursor, count=DEEP_IDS + 1, tally=tally
        )
        await asyncio.sleep(0)  # each step takes a millisecond or two of ten thousand outboxes
        some = merged.ids[:DEEP_IDS]
        if at.older:
            floor, ceiling = 0 if merged.exhausted else merged.ids[DEEP_IDS], cursor - 1
        else:
            floor, ceiling = cursor, int(limit) if merged.exhausted else min(int(limit), some[-1])
        most = nlargest(LEFT_OUT + 1, tally.held.items(), key=itemgetter(1))
        left_out = {name for name, _ in most[:LEFT_OUT]}
        allowance = self._store.limits.outbox_cap - (most[LEFT_OUT][1] if most[LEFT_OUT:] else 0)
        await asyncio.sleep(0)
        outbox_floor = max(
            (one for name, one in tally.floors.items() if name not in left_out), default=0
        )
        kept = [
            one
            for one in sorted(some)
            if floor < one <= ceiling and not left_out.issuperset(tally.routes[one])
        ]
        await asyncio.sleep(0)
        arguments: list[Arg] = [user, nonce, generation, DEEP_SECONDS * 1000, floor, ceiling]
        arguments += (outbox_floor, max(0, allowance), length, len(left_out), *left_out, *kept)
        return bool(await self._store.script("deep_commit", shard, *arguments))

    async def _build_once(self, user: str) -> int:
        """Materialises a cold feed; joins a build of this process that is under way.

        -1 if it stays cold: there are too many builds, or the store refuses writes.
        """
        task = self._builds.get(user)
        if task is None:
            if len(self._builds) >= self._store.limits.max_builds:
                return -1  # reads answer from the outboxes meanwhile
            task = asyncio.create_task(self._fanout.finish(self._build(user, force=False)))
            self._builds[user] = task
            task.add_done_callback(lambda ended: self._built(user, ended))
        try:
            return await asyncio.shield(task)
        except StoreUnavailable:
            return -1  # if the store is gone, the outboxes cannot be read either

    def _built(self, user: str, task: asyncio.Task[int]) -> None:
        self._builds.pop(user, None)
        retrieved(task)

    async def warm(self, user: str) -> None:
        """Materialises a feed unless it is; best effort."""
        if (await self._stored(user, Cursor(), 1)).state == "cold":
            await self._build_once(user)

    async def rebuild(self, user: str) -> int:
        """Materialises a feed anew. The number of entries; -1: it stays cold."""
        return await self._fanout.finish(self._build(user, force=True))

    async def _build(self, user: str, *, force: bool) -> int:
        nonce = secrets.token_hex(8)
        state, generation = await self._store.script(
            "build_begin", self._shard(user), user, nonce, int(force)
        )
        if state != b"cold":
            return -1
        tag = self._store.tags[self._shard(user)]
        sources, pulled = await asyncio.gather(
            self._edges.followees(user), self._store.call("SMEMBERS", keys.pulled(tag, user))
        )
        celebrities = (
            await self._store.call("HMGET", keys.celebrities(tag), *pulled) if pulled else []
        )
        cap = self._store.limits.feed_cap
        merged = await self._outboxes.merge(
            [user, *sources], older=True, cursor=None, count=cap + 1
        )
        floor = max(merged.floor, merged.ids[cap] if len(merged.ids) > cap else 0)
        arguments: list[Arg] = [user, nonce, generation, floor, len(pulled)]
        for name, said in zip(pulled, celebrities, strict=True):
            arguments += (name, said or "")
        arguments += (one for one in reversed(merged.ids[:cap]) if one > floor)
        return int(await self._store.script("build_commit", self._shard(user), *arguments))

    async def verify(self, user: str) -> Verified:
        """Compares a warm feed with the query."""
        persisting: set[Difference] | None = None
        compared = 0
        for read in range(VERIFY_READS):
            if read:
                await asyncio.sleep(VERIFY_SECONDS)
            tag = self._store.tags[self._shard(user)]
            stored, pulled = await asyncio.gather(
                self._store.call("LRANGE", self._stored_key(user), 0, -1),
                self._store.call("SMEMBERS", keys.pulled(tag, user)),
            )
            if not stored or stored[0].startswith(b"!"):
                return Verified("building" if stored else "cold")
            floor, *found = (int(one) for one in stored)
            compared = len(found)
            differences = await self._differences(
                user, floor, found, {name.decode() for name in pulled}
            )
            persisting = differences if persisting is None else persisting & differences
            if not persisting:
                break
        ordered = sorted(persisting or (), key=lambda difference: difference.id, reverse=True)
        return Verified("warm", compared, ordered)

    async def _differences(
        self, user: str, floor: int, found: list[int], pulled: set[str]
    ) -> set[Difference]:
        """What is missing of what is pushed, and what no followee has at all."""
        pushed = {user, *await self._edges.followees(user)} - pulled
        lowest = max(floor, found[0] - 1 if found else floor)
        truth, expected = None, set[int]()
        while truth is None or not (truth.exhausted or truth.ids[-1] <= lowest):
            truth = await self._outboxes.merge(
                pushed, older=True, cursor=truth.ids[-1] if truth else None, count=VERIFIED_A_READ
            )
            expected.update(one for one in truth.ids if one > floor)
        stored = set(found)
        unknown = stored - expected
        for entity in pulled if unknown else ():  # from before its followers were flipped
            outbox = await self._outboxes.merge(
                [entity], older=True, cursor=None, count=self._store.limits.outbox_cap
            )
            # Reads do not rely on what is stored below its floor.
            unknown = {one for one in unknown if one > outbox.floor}.difference(outbox.ids)
        suspects = [*(expected - stored), *unknown]
        alive = {
            one
            for one, body in zip(suspects, await self._activities.bodies(suspects), strict=True)
            if body is not None
        }
        misplaced = {
            below for above, below in zip(found[1:], found, strict=False) if above <= below
        }
        differences = {Difference("misplaced", one) for one in misplaced}
        differences |= {Difference("extra", one) for one in unknown & alive}
        differences |= {Difference("missing", one) for one in (expected - stored) & alive}
        return differences

    async def stats(self, user: str) -> Stats:
        """What is stored of a feed; reading it does not keep the feed warm."""
        tag = self._store.tags[self._shard(user)]
        feed = self._stored_key(user)
        head, length, ttl, size, pulled, lease, (_, following) = await asyncio.gather(
            self._store.call("LINDEX", feed, 0),
            self._store.call("LLEN", feed),
            self._store.call("PTTL", feed),
            self._store.call("MEMORY", "USAGE", feed),
            self._store.call("SCARD", keys.pulled(tag, user)),
            self._store.call("ZSCORE", keys.live(tag), user),
            self._edges.counts(user),
        )
        building = bool(head) and head.startswith(b"!")
        state: State = "cold" if not head else "building" if building else "warm"
        return Stats(
            state,
            max(0, length - 1),
            int(head) if state == "warm" else 0,
            size or 0,
            max(0, ttl),
            following,
            pulled,
            lease is not None,
        )
