"""Feeds: a user reads the merge of the outboxes of all followees and of the user's own outbox.

The packed list of the newest ids of that merge is a cache. Every read is right in whatever state
the cache is: above the floor of a warm feed the list answers, below the floor a deep segment or the
outboxes answer, and of a cold feed the outboxes.
"""

from contextlib import suppress

from feedsvc.core import keys
from feedsvc.core.activities import Activities
from feedsvc.core.background import CommittedWork
from feedsvc.core.builds import FeedBuilds
from feedsvc.core.deep import DeepSegments, Segment
from feedsvc.core.edges import Edges
from feedsvc.core.live_logs import Log
from feedsvc.core.outbox import Merged, Outboxes
from feedsvc.core.pages import Cursor, Keep, Page, Slice, read_page
from feedsvc.core.store import Store
from feedsvc.core.stored_feeds import Stats, StoredFeeds, StoredSlice
from feedsvc.core.verification import Verification, Verified
from feedsvc.errors import StoreUnavailable

#: Most PULL edges left behind by a dead process that one read settles.
SETTLED_A_READ = 8
#: Most deep segments that one read goes through.
SEGMENTS_A_READ = 3


class Feeds:
    """The feeds of a store."""

    def __init__(
        self, store: Store, activities: Activities, edges: Edges, work: CommittedWork
    ) -> None:
        self._store = store
        self._activities = activities
        self._edges = edges
        self._outboxes = Outboxes(store)
        self._stored = StoredFeeds(store)
        self._builds = FeedBuilds(store, edges, self._outboxes, work)
        self._deep = DeepSegments(store, edges, self._outboxes, work)
        self._verification = Verification(store, activities, edges, self._outboxes, self._stored)

    async def page(self, user: str, cursor: Cursor, size: int) -> Page:
        """Read a page of a user's feed."""
        return await read_page(
            lambda start, count: self._slice(user, start, count),
            self._activities.frames,
            cursor,
            size,
            max_ids=self._store.limits.read_work,
        )

    async def outbox_page(
        self, entity: str, log: Log, cursor: Cursor, size: int, keep: Keep
    ) -> Page:
        """Read a page of an entity's outbox, of the activities that ``keep`` chooses.

        ``log`` is the outbox's live log; its end is read before the outbox, so that a stream that
        begins at this end misses nothing.
        """
        log_tail = await self._log_tail(log)

        async def read_slice(start: Cursor, count: int) -> Slice:
            merged = await self._outboxes.merge(
                [entity], older=start.older, cursor=start.id, count=count
            )
            return _slice_of(merged, log_tail)

        return await read_page(
            read_slice,
            self._activities.frames,
            cursor,
            size,
            max_ids=self._store.limits.read_work,
            keep=keep,
        )

    async def warm(self, user: str) -> None:
        """Materialise a feed unless it is warm. It may stay cold: see ``FeedBuilds.build``."""
        if (await self._stored.read(user, Cursor(), 1)).state == "cold":
            await self._builds.build(user)

    async def rebuild(self, user: str) -> int:
        """Materialise a feed anew; return the number of its ids, -1 while another build runs."""
        return await self._builds.rebuild(user)

    async def verify(self, user: str) -> Verified:
        """Compare a warm feed with the merged outboxes."""
        return await self._verification.verify(user)

    async def stats(self, user: str) -> Stats:
        """Return the numbers of a stored feed. This does not keep the feed warm."""
        return await self._stored.stats(user, self._edges)

    async def _log_tail(self, log: Log) -> str:
        """Return the position at the end of a live log; empty if there is no log."""
        tag, incarnation = self._store.tags[log.shard], self._store.incarnations[log.shard]
        key = keys.log(tag, log.name, incarnation)
        entries = await self._store.call("XREVRANGE", key, "+", "-", "COUNT", 1)
        return entries[0][0].decode() if entries else ""

    async def _slice(self, user: str, cursor: Cursor, count: int) -> Slice:
        """Read up to ``count`` ids of a feed beyond a cursor."""
        stored = await self._stored.read(user, cursor, count)
        if stored.state == "cold":
            await self._builds.build(user)
            stored = await self._stored.read(user, cursor, count)
        if stored.state != "warm":
            return _slice_of(await self._merge(user, cursor, count), stored.log_tail)
        if _begins_below(cursor, stored):
            return _slice_of(await self._below(user, cursor, count), stored.log_tail)
        activity_ids, floor = stored.ids, 0
        if stored.pulled:
            activity_ids, floor = await self._with_pulled(user, stored, cursor, count)
            if _begins_below(cursor, stored):  # the PULL outboxes may have raised the floor
                return _slice_of(await self._below(user, cursor, count), stored.log_tail)
        exhausted = len(activity_ids) < count
        if cursor.older and exhausted and stored.floor:
            # Below the floor the warm feed lacks ids that the outboxes have.
            top = stored.floor + 1 if cursor.id is None else min(cursor.id, stored.floor + 1)
            below = await self._below(user, Cursor(older=True, id=top), count - len(activity_ids))
            activity_ids = activity_ids + below.ids
            exhausted, floor = below.exhausted, below.floor
        return Slice(activity_ids, exhausted, floor, stored.log_tail)

    async def _with_pulled(
        self, user: str, stored: StoredSlice, cursor: Cursor, count: int
    ) -> tuple[list[int], int]:
        """Merge a stored slice with the outboxes of PULL edges; return the ids and their floor.

        The stored list may hold ids from before a followee was flipped, which the followee's outbox
        has trimmed since: stored ids below the floor of any of these outboxes do not count.
        """
        pulled = await self._outboxes.merge(
            stored.pulled, older=cursor.older, cursor=cursor.id, count=count
        )
        stored.floor = max(stored.floor, pulled.floor)
        merged_ids = {
            activity_id for activity_id in (*stored.ids, *pulled.ids) if activity_id > stored.floor
        }
        if stored.unsettled:
            with suppress(StoreUnavailable):  # the store refuses writes: the edges stay PULL
                await self._edges.settle(user, stored.unsettled[:SETTLED_A_READ])
        return sorted(merged_ids, reverse=cursor.older)[:count], pulled.floor

    async def _merge(
        self, user: str, cursor: Cursor, count: int, followees: list[str] | None = None
    ) -> Merged:
        """Merge the outboxes of the user and of all followees, which are read unless given."""
        if followees is None:
            followees = await self._edges.followees(user)
        return await self._outboxes.merge(
            [user, *followees], older=cursor.older, cursor=cursor.id, count=count
        )

    async def _below(self, user: str, cursor: Cursor, count: int) -> Merged:
        """Read ids below the warm feed: from deep segments, or from the outboxes without them."""
        activity_ids: list[int] = []
        floor = 0
        for _ in range(SEGMENTS_A_READ):
            wanted = count - len(activity_ids)
            segment = await self._deep.read(user, cursor, wanted)
            if not isinstance(segment, Segment):
                merged = await self._merge(user, cursor, wanted, segment)
                return Merged(activity_ids + merged.ids, merged.exhausted, max(floor, merged.floor))
            beside = await self._outboxes.merge(
                segment.unmerged, older=cursor.older, cursor=cursor.id, count=wanted
            )
            floor = max(floor, beside.floor, segment.outbox_floor)
            nearest = {*segment.ids, *beside.ids}
            if segment_ends := len(segment.ids) < wanted:
                nearest = {
                    activity_id
                    for activity_id in nearest
                    if segment.floor < activity_id <= segment.ceiling
                }
            activity_ids += sorted(nearest, reverse=cursor.older)[:wanted]
            if len(activity_ids) == count or (segment_ends and cursor.older and not segment.floor):
                return Merged(activity_ids, len(activity_ids) < count, floor)
            if not cursor.older:
                above = Cursor(older=False, id=segment.ceiling)
                further = await self._slice(user, above, count - len(activity_ids))
                floor = max(floor, further.floor)
                return Merged(activity_ids + further.ids, further.exhausted, floor)
            cursor = Cursor(older=True, id=segment.floor + 1)
        merged = await self._merge(user, cursor, count - len(activity_ids))
        return Merged(activity_ids + merged.ids, merged.exhausted, max(floor, merged.floor))


def _begins_below(cursor: Cursor, stored: StoredSlice) -> bool:
    """Return whether a walk to newer ids begins where nothing is stored."""
    return not cursor.older and (cursor.id or 0) < stored.floor


def _slice_of(merged: Merged, log_tail: str) -> Slice:
    return Slice(merged.ids, merged.exhausted, merged.floor, log_tail)
