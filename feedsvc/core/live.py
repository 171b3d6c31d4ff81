"""The hub of live streams: reads logs for streams, wakes streams, and cuts slow streams.

The logs that all streams want at the same moment are read together. A stream first reads a log when
it begins to follow the log. It reads the log again after every wake-up, after every reconnection of
the channel for wake-ups, and from time to time.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from itertools import chain, islice

from feedsvc.core import background
from feedsvc.core.live_logs import LiveLogs, Log, ReadResult
from feedsvc.core.store import Store
from feedsvc.core.streams import LogCursor, Stream
from feedsvc.core.timer_wheel import TimerWheel
from feedsvc.core.wakeups import WakeUps

#: Most logs that are read at a time.
LOGS_A_ROUND = 128
#: Seconds that one turn of the event loop may spend on streams that get entries, with the work that
#: these streams then do; and the fewest and the most streams that get entries in a turn.
TURN_SECONDS, FEWEST_A_TURN, MOST_A_TURN = 0.001, 4, 16
#: Most seconds of a tick of the timer wheel.
TICK_SECONDS = 0.1
#: Part by which intervals vary, so that streams that began together do not stay in step.
JITTER = 0.2


class Live:
    """The live streams of this process."""

    def __init__(self, store: Store, logs: LiveLogs) -> None:
        self._logs = logs
        self._wakeups = WakeUps(store, self._wake, self._wake_all)
        self._cursors: dict[bytes, set[LogCursor]] = {}
        """Cursors by the name of their log."""
        self._wheel: TimerWheel[LogCursor | Stream]
        self._wanted: dict[tuple[Log, str], list[LogCursor]] = {}
        """Cursors whose logs are to be read, by log and position."""
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._streams_a_turn = MOST_A_TURN
        """Streams that get their entries in the next turn of the event loop."""
        self._streams: set[Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        """True if the server is stopping."""
        self._set_times(15.0, 3600.0)

    def _set_times(self, quiet_seconds: float, stream_seconds: float) -> None:
        self._quiet_seconds, self._stream_seconds = quiet_seconds, stream_seconds
        self._tick_seconds = min(TICK_SECONDS, quiet_seconds / 2)
        self._wheel = TimerWheel(self._tick_seconds, self._fire)

    def start(self, quiet_seconds: float, stream_seconds: float) -> None:
        """Begin to listen for wake-ups.

        A quiet log is read every ``quiet_seconds``, which renews its lease. A stream lives for
        ``stream_seconds``. Both times vary by ``JITTER``.
        """
        self._set_times(quiet_seconds, stream_seconds)
        self._tasks = [
            background.supervised("the listener to wake-ups", self._wakeups.run),
            background.supervised("the clock of streams", self._tick),
        ]

    def drain(self, seconds: float) -> None:
        """End all streams, spread over some seconds."""
        self.draining = True
        now = time.monotonic()
        for number, stream in enumerate(self._streams):
            stream.ends = stream.due = now + seconds * number / len(self._streams)
            self._wheel.add(stream)

    async def idle(self) -> None:
        """Wait until no stream is open."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop listening and reading."""
        for task in [*self._tasks, *([self._reading] if self._reading else [])]:
            await background.end(task)

    @contextlib.contextmanager
    def stream(self) -> Iterator[Stream]:
        """Open a stream, which follows nothing yet."""
        stream = Stream(self, 0.0 if self.draining else _varied(self._stream_seconds))
        self._streams.add(stream)
        self._idle.clear()
        self.reschedule(stream)
        self._wheel.add(stream)
        try:
            yield stream
        finally:
            stream.close()
            self._streams.discard(stream)
            if not self._streams:
                self._idle.set()

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    # What streams ask of their hub: see ``streams.Hub``.

    def add(self, cursor: LogCursor) -> None:
        """Wake the cursor's stream from now on when its log grows."""
        self._cursors.setdefault(cursor.log.name.encode(), set()).add(cursor)
        self.reschedule(cursor)
        self._wheel.add(cursor)

    def remove(self, cursor: LogCursor) -> None:
        """Undo ``add``."""
        name = cursor.log.name.encode()
        cursors = self._cursors.get(name, set())
        cursors.discard(cursor)
        if not cursors:
            self._cursors.pop(name, None)

    def request_read(self, cursor: LogCursor) -> None:
        """Read the cursor's log with the other wanted logs, and hand the result to its stream."""
        self._wanted.setdefault((cursor.log, cursor.position), []).append(cursor)
        if self._reading is None or self._reading.done():
            self._reading = background.supervised("the reader of logs", self._read_wanted)

    def reschedule(self, timed: LogCursor | Stream) -> None:
        """Move a deadline to the end of a quiet interval from now, or to the stream's end."""
        timed.due = time.monotonic() + _varied(self._quiet_seconds)
        if isinstance(timed, Stream):
            timed.due = min(timed.due, timed.ends)

    # Reading.

    async def _read_wanted(self) -> None:
        """Read the logs that are wanted now, then the logs that were wanted meanwhile."""
        while self._wanted:
            await asyncio.sleep(0)  # other streams that the same message woke request their reads
            logs = list(islice(self._wanted, LOGS_A_ROUND))
            cursors_by_log = [self._wanted.pop(log) for log in logs]
            for cursor in chain(*cursors_by_log):
                cursor.is_sent = True
            results: list[tuple[ReadResult, bool]]
            try:
                results = await self._logs.read_many(logs)
            except Exception as error:  # noqa: BLE001 (the streams that wait get the error)
                results = [(error, False)] * len(logs)
            served = 0
            for cursors, (result, has_more) in zip(cursors_by_log, results, strict=True):
                for cursor in cursors:
                    cursor.stream.take(cursor, result, has_more=has_more)
                    served += 1
                    if served >= self._streams_a_turn:
                        await self._let_others(served)
                        served = 0

    async def _let_others(self, served: int) -> None:
        """Let the served streams and other calls go on; adapt the streams of the next turn."""
        began = time.monotonic()
        await asyncio.sleep(0)
        seconds = max(1e-6, time.monotonic() - began)
        in_time = served * TURN_SECONDS / seconds  # streams that a turn can serve in time
        self._streams_a_turn = round(min(MOST_A_TURN, max(FEWEST_A_TURN, in_time)))

    # Waking.

    def _wake_all(self) -> None:
        for name in self._cursors:
            self._wake(name)

    def _wake(self, name: bytes) -> None:
        for cursor in self._cursors.get(name, ()):
            cursor.stream.wake(cursor)

    async def _tick(self) -> None:
        """In each tick, fire due cursors and streams, and cut streams whose clients do not read."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            self._wheel.fire_due()
            self._cut_slow()

    def _fire(self, timed: LogCursor | Stream) -> None:
        self.reschedule(timed)
        timed.fire()

    def _cut_slow(self) -> None:
        now = time.monotonic()
        for stream in self._streams:
            if stream.write_deadline < now and not stream.cut:
                stream.cut = True
                stream.task.cancel()


def _varied(seconds: float) -> float:
    """Return an interval, varied at random by ``JITTER``."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
