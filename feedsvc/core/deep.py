"""Deep segments: a cached part of a feed below its warm feed, for readers of old pages.

Without a segment each page below the warm feed reads the outboxes of all followees. A segment holds
the ids between its floor and its ceiling; ``lua/lib/feed.lua`` says how it stays right.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import Any

from feedsvc.core.background import CommittedWork, SharedBuilds
from feedsvc.core.edges import Edges
from feedsvc.core.outbox import Merged, Outboxes, Tally
from feedsvc.core.pages import Cursor
from feedsvc.core.store import Arg, Store

#: Edges up to which a page below the warm feed reads all outboxes; users with more edges get a
#: segment built.
FEW_EDGES = 40
#: Most ids that a segment holds, and seconds for which it is kept.
DEEP_IDS = 2_000
DEEP_SECONDS = 300
#: Number of the largest outboxes, which a segment leaves out and each page reads.
LEFT_OUT = 16
#: Most builds of a segment that a read joins or begins before it reads the outboxes instead.
BUILDS_A_READ = 2


@dataclass(slots=True)
class Segment:
    """A slice of a deep segment; the slice is complete between the segment's floor and ceiling."""

    floor: int
    ceiling: int
    outbox_floor: int
    """The id below which an outbox of the segment is trimmed; 0: no outbox is trimmed."""
    unmerged: list[str]
    """The entities whose outboxes are to be merged with the slice."""
    ids: list[int]
    """Ids beyond the cursor, nearest to it first."""


class DeepSegments:
    """The deep segments of a store, each built by at most one build of this process at a time."""

    def __init__(self, store: Store, edges: Edges, outboxes: Outboxes, work: CommittedWork) -> None:
        self._store = store
        self._edges = edges
        self._outboxes = outboxes
        self._builds = SharedBuilds[bool](work, store.limits.max_builds)

    async def read(self, user: str, cursor: Cursor, count: int) -> Segment | list[str] | None:
        """Read a slice of the user's segment. Build the segment if none serves the cursor.

        Return all followees instead if they are few. Return None if no segment could be built. In
        both cases the caller has to read the outboxes.
        """
        cursor_id = cursor.id or 0
        # The first build that the read joins may be for another cursor.
        for attempt in range(BUILDS_A_READ + 1):
            kind, *answer = await self._store.script(
                *("deep_read", self._store.shard_for(user), user, cursor.direction),
                *(cursor_id, cursor_id - 1, count, FEW_EDGES),
            )
            if kind == b"few":
                return self._edges.names(answer)
            if kind == b"segment":
                return _segment(answer)
            if attempt == BUILDS_A_READ or not await self._builds.join(
                user, lambda: self._build(user, cursor)
            ):
                break
        return None

    async def _build(self, user: str, cursor: Cursor) -> bool:
        """Build the segment that begins at a cursor; return whether a segment serves it now."""
        shard, nonce, cursor_id = self._store.shard_for(user), secrets.token_hex(8), cursor.id or 0
        state, *fields = await self._store.script(
            "deep_begin", shard, user, nonce, cursor.direction, cursor_id, cursor_id - 1
        )
        if state != b"begun":
            return bool(state == b"serves")
        generation, warm_length, greatest_ceiling, *pulled = fields
        # From here on the store notes in the segment what is delivered late, trimmed, flipped,
        # followed or unfollowed.
        sources = {user, *await self._edges.followees(user)}
        sources.difference_update(name.decode() for name in pulled)
        tally = Tally()
        merged = await self._outboxes.merge(
            sources, older=cursor.older, cursor=cursor_id, count=DEEP_IDS + 1, tally=tally
        )
        await asyncio.sleep(0)  # with ten thousand outboxes each step takes a millisecond or two
        floor, ceiling = _bounds(merged, cursor, int(greatest_ceiling))
        left_out, largest = _largest(tally)
        allowance = max(0, self._store.limits.outbox_cap - largest)
        await asyncio.sleep(0)
        outbox_floor = max(
            (
                entity_floor
                for entity, entity_floor in tally.floors.items()
                if entity not in left_out
            ),
            default=0,
        )
        kept_ids = [
            activity_id
            for activity_id in sorted(merged.ids[:DEEP_IDS])
            if floor < activity_id <= ceiling and not left_out.issuperset(tally.routes[activity_id])
        ]
        await asyncio.sleep(0)
        arguments: list[Arg] = [user, nonce, generation, DEEP_SECONDS * 1000, floor, ceiling]
        arguments += (outbox_floor, allowance, warm_length, len(left_out), *left_out, *kept_ids)
        return bool(await self._store.script("deep_commit", shard, *arguments))


def _segment(answer: Sequence[Any]) -> Segment:
    """Return the segment that ``deep_read.lua`` answers with."""
    floor, ceiling, outbox_floor, left_out, pulled, activity_ids = answer
    return Segment(
        int(floor),
        int(ceiling),
        int(outbox_floor),
        list({entity.decode() for entity in (*left_out, *pulled)}),
        [int(activity_id) for activity_id in activity_ids],
    )


def _bounds(merged: Merged, cursor: Cursor, greatest_ceiling: int) -> tuple[int, int]:
    """Return the floor and the ceiling between which the merged ids are complete."""
    if cursor.older:
        return 0 if merged.exhausted else merged.ids[DEEP_IDS], (cursor.id or 0) - 1
    ceiling = greatest_ceiling
    if not merged.exhausted:
        ceiling = min(ceiling, merged.ids[DEEP_IDS - 1])
    return cursor.id or 0, ceiling


def _largest(tally: Tally) -> tuple[set[str], int]:
    """Return the entities whose outboxes hold the most ids, and the most ids of any other."""
    largest = nlargest(LEFT_OUT + 1, tally.held.items(), key=itemgetter(1))
    next_largest = largest[LEFT_OUT][1] if largest[LEFT_OUT:] else 0
    return {entity for entity, _ in largest[:LEFT_OUT]}, next_largest
