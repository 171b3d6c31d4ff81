"""Verification: compares a warm feed with the query whose answer the feed stores."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from feedsvc.core.activities import Activities
from feedsvc.core.edges import Edges
from feedsvc.core.outbox import Merged, Outboxes
from feedsvc.core.store import Store
from feedsvc.core.stored_feeds import State, StoredFeeds

#: Reads that must all show a difference before it is reported, and the seconds between reads: the
#: feed changes while it is compared.
VERIFY_READS = 5
VERIFY_SECONDS = 0.2
#: Ids of the merged outboxes that are read at a time.
VERIFIED_A_READ = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """An activity in which a stored feed differs from the query."""

    kind: Literal["missing", "extra", "misplaced"]
    id: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a comparison."""

    state: State
    """Only a warm feed can be compared."""
    compared: int = 0
    """Number of stored ids that were compared."""
    differences: list[Difference] = field(default_factory=list)
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Compares stored feeds with the merged outboxes."""

    store: Store
    activities: Activities
    edges: Edges
    outboxes: Outboxes
    stored: StoredFeeds

    async def verify(self, user: str) -> Verified:
        """Compare a warm feed with the query; report the differences that each read sees."""
        persisting: set[Difference] | None = None
        compared = 0
        for read in range(VERIFY_READS):
            if read:
                await asyncio.sleep(VERIFY_SECONDS)
            state, elements, pulled = await self.stored.whole(user)
            if state != "warm":
                return Verified(state)
            floor, *stored_ids = elements
            compared = len(stored_ids)
            differences = await self._differences(user, floor, stored_ids, pulled)
            persisting = differences if persisting is None else persisting & differences
            if not persisting:
                break
        ordered = sorted(persisting or (), key=lambda difference: difference.id, reverse=True)
        return Verified("warm", compared, ordered)

    async def _differences(
        self, user: str, floor: int, stored_ids: Sequence[int], pulled: set[str]
    ) -> set[Difference]:
        """Return missing pushed ids, ids that no source has, and ids out of order."""
        lowest = max(floor, stored_ids[0] - 1 if stored_ids else floor)
        expected = await self._pushed_ids(user, pulled, floor, lowest)
        stored = set(stored_ids)
        unknown = await self._without_source(stored - expected, pulled)
        missing = expected - stored
        existing = await self._existing([*missing, *unknown])
        out_of_order = {lower for lower, upper in pairwise(stored_ids) if upper <= lower}
        return {
            *(Difference("misplaced", activity_id) for activity_id in out_of_order),
            *(Difference("extra", activity_id) for activity_id in unknown & existing),
            *(Difference("missing", activity_id) for activity_id in missing & existing),
        }

    async def _pushed_ids(self, user: str, pulled: set[str], floor: int, lowest: int) -> set[int]:
        """Return the ids above the floor, down to the lowest id, of sources that are pushed."""
        pushed = {user, *await self.edges.followees(user)} - pulled
        merged: Merged | None = None
        activity_ids: set[int] = set()
        while merged is None or not (merged.exhausted or merged.ids[-1] <= lowest):
            cursor = merged.ids[-1] if merged else None
            merged = await self.outboxes.merge(
                pushed, older=True, cursor=cursor, count=VERIFIED_A_READ
            )
            activity_ids.update(activity_id for activity_id in merged.ids if activity_id > floor)
        return activity_ids

    async def _without_source(self, unknown: set[int], pulled: set[str]) -> set[int]:
        """Return the unknown ids that no PULL source pushed before its followers were flipped."""
        for entity in pulled if unknown else ():
            outbox = await self.outboxes.merge(
                [entity], older=True, cursor=None, count=self.store.limits.outbox_cap
            )
            # Reads do not rely on stored ids below the floor of a PULL outbox.
            unknown = {
                activity_id for activity_id in unknown if activity_id > outbox.floor
            }.difference(outbox.ids)
        return unknown

    async def _existing(self, activity_ids: Sequence[int]) -> set[int]:
        """Return the ids of the activities that are not deleted."""
        frames = await self.activities.frames(activity_ids)
        return {
            activity_id
            for activity_id, frame in zip(activity_ids, frames, strict=True)
            if frame is not None
        }
