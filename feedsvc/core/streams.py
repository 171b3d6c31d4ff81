"""Streams: the logs that a call follows, and the call's position in each log.

A stream holds no timer, and only the events that its task is about to take. While the task waits,
the hub (``live.py``) reads a log that has grown at once, together with the logs that other streams
want. While the task is busy, because its client is slow, the stream only notes which logs have
grown.
"""

import asyncio
import math
import time
from typing import Any, Protocol

from feedsvc.core.live_logs import Log, ReadResult

#: Most logs that are read for one stream at a time.
LOGS_A_TURN = 64
#: Bytes of activities that a stream holds until its task takes them. The read that reaches the
#: bound is kept whole; later reads are repeated when the task has taken what the stream holds.
HELD_BYTES = 1_048_576


class StreamOver(Exception):
    """The stream has to end: the server is stopping, or the stream has reached its maximum age."""


class Hub(Protocol):
    """The object that reads logs for streams, and wakes streams."""

    def add(self, cursor: "LogCursor") -> None:
        """Wake the cursor's stream from now on when its log grows."""

    def remove(self, cursor: "LogCursor") -> None:
        """Undo ``add``."""

    def request_read(self, cursor: "LogCursor") -> None:
        """Read the cursor's log soon, and hand the result to its stream."""

    def reschedule(self, timed: "LogCursor | Stream") -> None:
        """Move the time at which a quiet log is read, or a quiet stream wakes."""


class LogCursor:
    """The position of a stream in one log, and the state of its next read."""

    __slots__ = (
        "closed",
        "due",
        "grew",
        "is_sent",
        "is_wanted",
        "log",
        "position",
        "stream",
        "tag",
    )

    def __init__(self, stream: "Stream", log: Log, position: str, tag: Any) -> None:
        self.stream = stream
        self.log = log
        self.position = position
        """The last entry that was read. The client may not have been sent this entry yet."""
        self.tag = tag
        """The object by which the stream's task knows the log."""
        self.due = 0.0
        """Monotonic time at which the log is read even if nothing wakes the stream."""
        self.is_wanted = False
        """True while a read of the log is requested or under way."""
        self.is_sent = False
        """True once that read was sent: it may not see entries that are written from now on."""
        self.grew = False
        """True if the log grew after that read was sent."""
        self.closed = False

    def fire(self) -> None:
        """Have the log read: the cursor's deadline has passed."""
        self.stream.wake(self)


class Stream:
    """The logs that a call follows. Only the task that creates a stream may use the stream."""

    __slots__ = (
        *("_held", "_hub", "_read", "_reads_pending", "_unread", "_waiter", "_woken"),
        *("closed", "cursors", "cut", "due", "ends", "task", "write_deadline"),
    )

    def __init__(self, hub: Hub, seconds: float) -> None:
        self._hub = hub
        self._unread: dict[LogCursor, None] = {}
        """Cursors whose logs may have grown, in the order in which they are read."""
        self._reads_pending = 0
        """Number of cursors whose logs are being read."""
        self._read: list[tuple[LogCursor, ReadResult]] = []
        """Results that the task has not taken yet."""
        self._held = 0
        """Bytes of the frames in these results."""
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False
        self.cursors: set[LogCursor] = set()
        self.due = 0.0
        """Monotonic time at which the stream wakes even if nothing happens."""
        self.ends = time.monotonic() + seconds
        self.closed = False
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        """The task of the call."""
        self.write_deadline = math.inf
        """Deadline of the write that the task waits for; the hub cancels a late task."""
        self.cut = False
        """True if the hub cancelled the task because of that deadline."""

    def follow(self, log: Log, position: str, tag: Any = None) -> LogCursor:
        """Follow a log from a position on."""
        cursor = LogCursor(self, log, position, tag)
        self.cursors.add(cursor)
        self._hub.add(cursor)
        self.wake(cursor)
        return cursor

    def leave(self, cursor: LogCursor) -> None:
        """Stop following a log."""
        cursor.closed = True
        self.cursors.discard(cursor)
        self._unread.pop(cursor, None)
        self._hub.remove(cursor)

    def close(self) -> None:
        """Stop following all logs."""
        self.closed = True
        for cursor in list(self.cursors):
            self.leave(cursor)

    def fire(self) -> None:
        """Wake the task: the stream's deadline has passed."""
        self.wake()

    def wake(self, cursor: LogCursor | None = None) -> None:
        """Note that the cursor's log may have grown or, without a cursor, wake the task."""
        if cursor is None:
            self._woken = True
            self._rouse()
        elif cursor.is_wanted:
            cursor.grew = cursor.is_sent  # a read that is not sent yet sees the growth
        elif not cursor.closed:
            self._unread[cursor] = None
            if self._waiter is not None:
                self._request_reads()

    async def next(self) -> list[tuple[LogCursor, ReadResult]]:
        """Wait until logs have been read, or the stream was woken; return the results of the reads.

        Each result begins at the old position of its cursor. The cursor has moved on already, and
        moves further while the caller works on the results: a resume token names the last entry
        that was sent, never the cursor's position. Raise StreamOver when the stream has to end.
        """
        self._request_reads()
        if not (self._read or self._woken or self.over):
            self._waiter = self.task.get_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._woken = False
        if self.over:
            raise StreamOver
        results, self._read, self._held = self._read, [], 0
        return [(cursor, result) for cursor, result in results if not cursor.closed]

    def take(self, cursor: LogCursor, result: ReadResult, *, has_more: bool = False) -> None:
        """Take the result of a read of the cursor's log; ``has_more`` if entries follow it."""
        self._reads_pending -= 1
        if cursor.closed:
            return
        has_more = has_more or cursor.grew
        cursor.is_wanted = cursor.is_sent = cursor.grew = False
        if isinstance(result, list) and result:
            if self._held >= HELD_BYTES:  # read again from the same position, when there is room
                self._unread[cursor] = None
                return
            self._held += sum(len(entry.frame) for entry in result if entry.frame is not None)
            cursor.position = result[-1].position
        if has_more:
            self._unread[cursor] = None
        self._hub.reschedule(cursor)
        self._read.append((cursor, result))
        self._rouse()

    @property
    def over(self) -> bool:
        """True if the stream has to end."""
        return time.monotonic() >= self.ends

    @property
    def all_read(self) -> bool:
        """True if all logs have been read since they last may have grown."""
        return not (self._reads_pending or self._unread)

    def _request_reads(self) -> None:
        while self._unread and self._reads_pending < LOGS_A_TURN and self._held < HELD_BYTES:
            cursor = next(iter(self._unread))
            del self._unread[cursor]
            cursor.is_wanted = True
            self._reads_pending += 1
            self._hub.request_read(cursor)

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
