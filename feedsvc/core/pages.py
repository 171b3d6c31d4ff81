"""Pages of activities: where a page begins, what a page holds, and where the next page begins."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from feedsvc.paging import cut_page


class End(Enum):
    """Why a walk ends at a page."""

    MORE = "more"
    """The walk does not end here."""
    FEED = "feed"
    """Nothing is older."""
    RETENTION = "retention"
    """Older activities were trimmed."""
    NEWEST = "newest"
    """Nothing is newer at this time."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins, exclusive, and the direction of the walk."""

    older: bool = True
    """True if the walk goes towards older activities."""
    id: int | None = None
    """The activity id to begin beyond; None, only for a walk to older ids, is the top."""

    @property
    def direction(self) -> str:
        """The direction as scripts name it."""
        return "older" if self.older else "newer"


@dataclass(slots=True)
class Page:
    """A page of a feed or an outbox."""

    items: list[tuple[int, bytes]]
    """Activity ids and frames, newest first."""
    older: int | None
    """The id beyond which a walk to older ids continues; None at the end."""
    newer: int
    """The id beyond which a walk to newer ids continues."""
    end: End
    incomplete_below: int | None = None
    """The id below which some outbox was trimmed, if the page reaches down to that id."""
    log_tail: str = ""
    """The position at the end of the live log before the read; empty if there is no log."""


@dataclass(slots=True)
class Slice:
    """Ids beyond a cursor, nearest first; their activities may have been deleted."""

    ids: list[int]
    exhausted: bool
    """True if the feed or outbox holds no more ids in this direction."""
    floor: int = 0
    """The id below which an outbox of the slice is trimmed; 0: no outbox is trimmed."""
    log_tail: str = ""
    """As in ``Page``."""


ReadSlice = Callable[[Cursor, int], Awaitable[Slice]]
"""Reads up to a number of ids beyond a cursor."""
ReadFrames = Callable[[Sequence[int]], Awaitable[list[bytes | None]]]
"""Reads the frames of activities; None where an activity is deleted."""
Keep = Callable[[bytes], bool]
"""Chooses activities by their frames."""


@dataclass(slots=True)
class _Walk:
    """The slices that were read for one page."""

    start: Cursor
    reached: Cursor
    """The last id that was looked at; its activity may be deleted."""
    items: list[tuple[int, bytes]] = field(default_factory=list)
    """Ids and frames of the activities to show, nearest to the start first."""
    looked_at: int = 0
    """Number of ids that were looked at."""
    first: Slice | None = None
    floor: int = 0
    exhausted: bool = False

    def add(self, nearest: Slice, frames: Iterable[bytes | None], keep: Keep | None) -> None:
        """Take the activities of a slice that exist and that ``keep`` chooses."""
        self.first = self.first or nearest
        self.items += [
            (activity_id, frame)
            for activity_id, frame in zip(nearest.ids, frames, strict=True)
            if frame is not None and (keep is None or keep(frame))
        ]
        self.looked_at += len(nearest.ids)
        self.floor = max(self.floor, nearest.floor)
        self.exhausted = nearest.exhausted
        if nearest.ids:
            self.reached = Cursor(self.start.older, nearest.ids[-1])

    def cut(self, size: int) -> bool:
        """Drop the items that do not fit into the page; return whether any item was dropped."""
        page = cut_page(self.items, size, (len(frame) for _, frame in self.items))
        self.items = list(page.entries)
        if page.has_more:
            self.reached = Cursor(self.start.older, self.items[-1][0])
        return page.has_more


async def read_page(  # noqa: PLR0913 (what is read, and how far)
    read_slice: ReadSlice,
    read_frames: ReadFrames,
    cursor: Cursor,
    size: int,
    *,
    max_ids: int,
    keep: Keep | None = None,
) -> Page:
    """Read a page of ``size`` activities that exist, slice by slice until the page is full.

    The walk looks for one activity more than the page holds: only an activity that exists promises
    another page. After ``max_ids`` ids, or at ``PAGE_BODY_BYTES``, the page is cut short; its
    cursors lead to the activities that it lacks.
    """
    walk = _Walk(cursor, cursor)
    while len(walk.items) <= size and not walk.exhausted and walk.looked_at < max_ids:
        nearest = await read_slice(walk.reached, size + 1 - len(walk.items))
        walk.add(nearest, await read_frames(nearest.ids), keep)
    has_more = walk.cut(size)
    end = _end_of(walk, has_more=has_more)
    if not cursor.older:
        walk.items.reverse()
    older, newer = (_beyond_older if cursor.older else _beyond_newer)(walk, end)
    lowest = walk.items[-1][0] if walk.items else walk.reached.id or 0
    reaches_floor = lowest <= walk.floor or end in (End.FEED, End.RETENTION)
    return Page(
        walk.items,
        older,
        newer,
        end,
        walk.floor if walk.floor and reaches_floor else None,
        walk.first.log_tail if walk.first else "",
    )


def _end_of(walk: _Walk, *, has_more: bool) -> End:
    """Return why the walk ends at its page."""
    if has_more or not walk.exhausted:
        return End.MORE
    if not walk.start.older:
        return End.NEWEST
    return End.RETENTION if walk.floor else End.FEED


# A walk in the opposite direction begins at the end of its page where the page's walk began.


def _beyond_older(walk: _Walk, end: End) -> tuple[int | None, int]:
    """Return where walks continue from a page of older activities: to older and to newer ids."""
    older = walk.reached.id if end is End.MORE else None
    if walk.items:
        return older, walk.items[0][0]
    if walk.start.id:
        return older, walk.start.id - 1
    return older, walk.first.ids[0] if walk.first and walk.first.ids else 0


def _beyond_newer(walk: _Walk, end: End) -> tuple[int | None, int]:
    """Return where walks continue from a page of newer activities: to older and to newer ids."""
    start = walk.start.id or 0
    older = walk.items[-1][0] if walk.items else start + 1
    if end is not End.NEWEST:  # the next page begins beyond the last id that this walk looked at
        return older, walk.reached.id or 0
    # A late activity may still come in below a deleted activity: continue from the last activity
    # that exists.
    return older, walk.items[0][0] if walk.items else start
