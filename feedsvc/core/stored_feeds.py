"""Stored feeds: the packed list that caches the newest ids of a user's feed."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from feedsvc.core import keys
from feedsvc.core.edges import Edges
from feedsvc.core.pages import Cursor
from feedsvc.core.store import Store

State = Literal["cold", "building", "warm"]
"""State of a stored feed: not stored; being built; complete above its floor."""


@dataclass(slots=True)
class StoredSlice:
    """Ids of a stored feed beyond a cursor, and the state that a reader needs beside them."""

    state: State
    floor: int
    """The id up to which the feed is not stored; 0: all of the feed is stored."""
    log_tail: str
    """The end of the user's live log; empty if there is no log."""
    pulled: list[str]
    """Followees whose outboxes are to be merged with the slice: their edges are PULL."""
    unsettled: list[str]
    """The followees in ``pulled`` whose edges need not be PULL."""
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Stats:
    """Numbers of a stored feed."""

    state: State
    entries: int
    floor: int
    bytes: int
    """Bytes of memory that the feed takes, as the store reports."""
    expires_ms: int
    """Milliseconds until the feed expires unless a read renews it."""
    following: int
    pulled: int
    """Number of PULL edges."""
    live: bool
    """True if the user's live log is being written."""


class StoredFeeds:
    """The stored feeds of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, user: str, cursor: Cursor, count: int) -> StoredSlice:
        """Read up to ``count`` stored ids beyond a cursor. Reading keeps the feed warm."""
        state, head, log_tail, pulled, unsettled, activity_ids = await self._store.script(
            "feed_read",
            self._store.shard_for(user),
            user,
            cursor.direction,
            "" if cursor.id is None else cursor.id,
            count,
        )
        return StoredSlice(
            state.decode(),
            int(head) if state == b"warm" else 0,
            log_tail.decode(),
            [followee.decode() for followee in pulled],
            [followee.decode() for followee in unsettled],
            [int(activity_id) for activity_id in activity_ids],
        )

    async def whole(self, user: str) -> tuple[State, list[int], set[str]]:
        """Return a feed's state, its floor followed by all its ids, and the PULL followees.

        The list is empty unless the feed is warm. Reading it does not keep the feed warm.
        """
        elements, pulled = await asyncio.gather(
            self._store.call("LRANGE", self._key(user), 0, -1),
            self._store.call("SMEMBERS", keys.pulled(self._store.tag_for(user), user)),
        )
        if not elements or elements[0].startswith(b"!"):
            return "building" if elements else "cold", [], set()
        return "warm", [int(element) for element in elements], {name.decode() for name in pulled}

    async def stats(self, user: str, edges: Edges) -> Stats:
        """Return the numbers of a stored feed. This does not keep the feed warm."""
        feed, tag = self._key(user), self._store.tag_for(user)
        head, length, ttl, size, pulled, lease, (_, following) = await asyncio.gather(
            self._store.call("LINDEX", feed, 0),
            self._store.call("LLEN", feed),
            self._store.call("PTTL", feed),
            self._store.call("MEMORY", "USAGE", feed),
            self._store.call("SCARD", keys.pulled(tag, user)),
            self._store.call("ZSCORE", keys.live(tag), user),
            edges.counts(user),
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

    def _key(self, user: str) -> str:
        shard = self._store.shard_for(user)
        return keys.feed(self._store.tags[shard], user, self._store.incarnations[shard])
