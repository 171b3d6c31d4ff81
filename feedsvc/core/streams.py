"""Streams: what one call follows, and where it is in each log.

A stream holds no timer, and no events but those that its task is about to take. While the task
waits, a log that has grown is read for it at once, together with what others want (``live.py``);
while it is busy, because its client is slow, it is only noted that there is more.
"""

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from feedsvc.core.live import Live

#: Entries that one read of a log returns at the most.
ENTRIES_A_READ = 100
#: Logs that are read for a stream at a time.
LOGS_A_TURN = 64
#: Bytes of activities that are held for a stream until its task takes them. The read that reaches
#: the bound is kept whole; later ones are done again when the task has taken what is there.
HELD_BYTES = 1_048_576

Kind = Literal["created", "added", "removed", "followed", "unfollowed"]


class Entry(NamedTuple):
    """An event of a live log."""

    place: str
    """Its id in the log: ``<n>-<nonce>``."""
    kind: Kind
    what: str
    """The activity's id, or the entity that was followed or unfollowed."""
    route: str = ""
    """Which entity brought an added activity, if that is followed still."""
    body: bytes | None = None
    """Of an added activity; None: it is not there any more."""


Found = list[Entry] | Exception
"""What a log holds after a place, or why that is not known."""


class StreamOver(Exception):
    """The stream is to end: the server is stopping, or it has lived as long as streams may."""


class Log(NamedTuple):
    """Which log."""

    shard: int
    name: str


class Reader:
    """Where a stream is in one log."""

    __slots__ = ("again", "asked", "closed", "due", "log", "place", "sent", "stream", "tag")

    def __init__(self, stream: "Stream", log: Log, place: str, tag: Any) -> None:
        self.stream = stream
        self.log = log
        self.place = place
        """How far its log has been read, not how far it has been sent."""
        self.tag = tag
        """What the stream knows it by."""
        self.due = 0.0
        """When it is to be read though nothing wakes it."""
        self.asked = False
        """Whether its log is read for it, or will be in a moment."""
        self.sent = False
        """Whether that read has left, and so may not see what happens now."""
        self.again = False
        """Whether it was woken since."""
        self.closed = False

    def fire(self) -> None:
        """It is due."""
        self.stream.wake(self)


class Stream:
    """What one call follows. Only one task may use it."""

    __slots__ = (
        *("_asked", "_found", "_held", "_live", "_unread", "_waiter", "_woken", "closed", "cut"),
        *("due", "ends", "must_go_on", "readers", "task"),
    )

    def __init__(self, live: "Live", seconds: float) -> None:
        self._live = live
        self._unread: dict[Reader, None] = {}
        self._asked = 0
        """Readers whose logs are being read."""
        self._found: list[tuple[Reader, Found]] = []
        self._held = 0
        """Bytes of the bodies in ``_found``."""
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False
        self.readers: set[Reader] = set()
        self.due = 0.0
        """When it is to be woken though nothing happens."""
        self.ends = time.monotonic() + seconds
        self.closed = False
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        """The call's."""
        self.must_go_on = math.inf
        """By when what its task waits for must have happened; else the task is cancelled."""
        self.cut = False
        """Whether it was cancelled for that."""

    def follow(self, log: Log, place: str, tag: Any = None) -> Reader:
        """Follows a log from a place on."""
        reader = Reader(self, log, place, tag)
        self.readers.add(reader)
        self._live.add(reader)
        self.wake(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Follows a log no more."""
        reader.closed = True
        self.readers.discard(reader)
        self._unread.pop(reader, None)
        self._live.remove(reader)

    def close(self) -> None:
        """Follows nothing more."""
        self.closed = True
        for reader in list(self.readers):
            self.leave(reader)

    def fire(self) -> None:
        """It is due."""
        self.wake()

    def wake(self, reader: Reader | None = None) -> None:
        """A log may have grown, or the stream's state has changed."""
        if reader is None:
            self._woken = True
            self._rouse()
        elif reader.asked:
            reader.again = reader.sent  # else the read will see it
        elif not reader.closed:
            self._unread[reader] = None
            if self._waiter is not None:
                self._ask()

    async def next(self) -> list[tuple[Reader, Found]]:
        """Waits until logs have been read, or something else woke it.

        What each log held after where its reader was, which has moved on, and moves on while the
        caller is busy with this: a resume token names the place of the last entry that was sent,
        never ``reader.place``. Raises StreamOver.
        """
        self._ask()
        if not (self._found or self._woken or self.over):
            self._waiter = self.task.get_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._woken = False
        if self.over:
            raise StreamOver
        found, self._found, self._held = self._found, [], 0
        return [one for one in found if not one[0].closed]

    def tell(self, reader: Reader, found: Found, *, more: bool = False) -> None:
        """Its log has been read; ``more``: not to its end."""
        self._asked -= 1
        if reader.closed:
            return
        more, reader.asked, reader.sent, reader.again = more or reader.again, False, False, False
        if isinstance(found, list) and found:
            if self._held >= HELD_BYTES:  # read again from the same place, when there is room
                self._unread[reader] = None
                return
            self._held += sum(len(entry.body) for entry in found if entry.body is not None)
            reader.place = found[-1].place
        if more:
            self._unread[reader] = None
        self._live.put_off(reader)
        self._found.append((reader, found))
        self._rouse()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.ends

    @property
    def all_read(self) -> bool:
        """Whether its logs have been read since they last may have grown."""
        return not (self._asked or self._unread)

    def _ask(self) -> None:
        """Has logs read."""
        while self._unread and self._asked < LOGS_A_TURN and self._held < HELD_BYTES:
            reader = next(iter(self._unread))
            del self._unread[reader]
            reader.asked = True
            self._asked += 1
            self._live.want(reader)

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
