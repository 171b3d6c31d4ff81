"""Live logs: what happened, in order, and streams that follow them.

There is a log for each feed and each outbox that somebody follows, and one in each shard of all
that is published there. The log is the truth; the channel only wakes. Whoever follows a log reads
it first, and again after every wake-up, after every reconnection of the channel, and from time to
time.

Streams hold no events and no timers. Each says when it can take more; then its logs are read from
where it is, together with those of all others that ask in the same moment.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

from redis.exceptions import RedisError

from feedsvc.core import ids, keys
from feedsvc.core.activities import read_bodies
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Entries that one read of a log returns at the most, and all reads of one call together.
ENTRIES_A_READ, ENTRIES_A_CALL = 100, 400
#: Logs that are read by one call, and at a time; bodies of activities that are read by one call.
LOGS_A_CALL, LOGS_A_ROUND, BODIES_A_CALL = 32, 128, 256
#: Logs that a stream reads at a time.
LOGS_A_TURN = 64
#: Seconds between attempts to listen to the channel again.
LISTEN_AGAIN_SECONDS = 0.2
#: Seconds after which a listener that has not ended is cancelled again.
CANCEL_AGAIN_SECONDS = 0.1
#: Seconds between looks at what is due, at the most.
TICK_SECONDS = 0.1
#: By how much times are varied, so that streams that began together do not go on together.
JITTER = 0.2

Kind = Literal["created", "added", "removed", "followed", "unfollowed"]
_KINDS: dict[bytes, Kind] = {
    b"c": "created",
    b"a": "added",
    b"r": "removed",
    b"f": "followed",
    b"u": "unfollowed",
}


class LogLost(Exception):
    """The log does not hold the entry to continue after: events are missing."""


class StreamOver(Exception):
    """The stream is to end: the server is stopping, or it has lived as long as streams may."""


@dataclass(frozen=True, slots=True)
class Entry:
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


_Found = list[Entry] | Exception


class Log(NamedTuple):
    """Which log."""

    shard: int
    name: str


class Reader:
    """Where a stream is in one log."""

    __slots__ = ("closed", "due", "log", "place", "stream", "tag")

    def __init__(self, stream: "Stream", log: Log, place: str, tag: Any) -> None:
        self.stream = stream
        self.log = log
        self.place = place
        self.tag = tag
        """What the stream knows it by."""
        self.due = 0.0
        """When it is to be read though nothing wakes it."""
        self.closed = False

    def fire(self) -> None:
        """It is due."""
        self.stream.wake(self)


class Stream:
    """What one call follows. Only one task may use it."""

    __slots__ = (
        *("_live", "_ready", "_waiter", "_woken", "closed", "cut", "due", "ends", "must_go_on"),
        *("readers", "task"),
    )

    def __init__(self, live: "Live", seconds: float) -> None:
        self._live = live
        self._ready: dict[Reader, None] = {}
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
        self._ready.pop(reader, None)
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
        if reader is not None and not reader.closed:
            self._ready[reader] = None
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Waits until a log may have grown, or a while has passed. Raises StreamOver."""
        if not self._woken and not self.over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._woken = False
        if self.over:
            raise StreamOver

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.ends

    def ready(self) -> list[Reader]:
        """Some of those that may have something to tell, to be read before the next wait."""
        some = [reader for reader, _ in zip(self._ready, range(LOGS_A_TURN), strict=False)]
        for reader in some:
            del self._ready[reader]
        self._woken = self._woken or bool(self._ready)
        return some

    async def read(self, reader: Reader) -> list[Entry]:
        """What the log holds after where the reader is, which moves on. Raises LogLost."""
        entries = await self._live.read_with_others(reader.log, reader.place)
        if entries:
            reader.place = entries[-1].place
            if len(entries) == ENTRIES_A_READ:  # there may be more
                self.wake(reader)
        self._live.put_off(reader)
        return entries


class Live:
    """The live logs of a store, and who follows them here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers: dict[bytes, set[Reader]] = {}
        self._due: dict[int, list[Reader | Stream]] = {}
        """By tick: who is due then or has been put off."""
        self._wanted: dict[tuple[Log, str], list[asyncio.Future[list[Entry]]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._streams: set[Stream] = set()
        self._quiet_seconds, self._seconds, self._tick_seconds = 15.0, 3600.0, TICK_SECONDS
        self.draining = False
        """The server is stopping."""

    def start(self, quiet_seconds: float, stream_seconds: float) -> None:
        """Begins to listen for wake-ups.

        A log that is quiet is read each ``quiet_seconds``, which keeps it written. Streams live for
        ``stream_seconds``. Both vary.
        """
        self._quiet_seconds, self._seconds = quiet_seconds, stream_seconds
        self._tick_seconds = min(TICK_SECONDS, quiet_seconds / 2)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tick())]

    def drain(self, seconds: float) -> None:
        """Ends all streams in the course of some seconds."""
        self.draining = True
        now = time.monotonic()
        for number, stream in enumerate(self._streams):
            stream.ends = stream.due = now + seconds * number / len(self._streams)
            self._put(stream)

    async def close(self) -> None:
        tasks = [*self._tasks, *([self._reading] if self._reading else [])]
        for task in tasks:
            # Again and again: while it connects, redis-py may swallow a cancellation.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)

    @contextlib.contextmanager
    def stream(self) -> Iterator[Stream]:
        """A stream, which follows nothing yet."""
        stream = Stream(self, 0.0 if self.draining else _varied(self._seconds))
        self._streams.add(stream)
        self._add(stream)
        try:
            yield stream
        finally:
            stream.close()
            self._streams.discard(stream)

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self._streams)

    def of_feed(self, user: str) -> Log:
        """The log of a user's feed."""
        return Log(ids.shard_for(user, self._store.limits.shards), user)

    def of_outbox(self, entity: str) -> Log:
        """The log of an entity's outbox."""
        return Log(ids.shard_for(entity, self._store.limits.shards), keys.OUTBOX_LOG + entity)

    def of_all(self) -> list[Log]:
        """The logs of all that is published."""
        return [Log(shard, keys.ALL_LOG) for shard in range(self._store.limits.shards)]

    async def open(self, log: Log) -> str:
        """Has a log written, or keeps it so for another lease; the place at its end."""
        place: bytes = await self._store.script("live_open", log.shard, log.name)
        return place.decode()

    async def read(self, log: Log, place: str) -> list[Entry]:
        """What a log holds after a place, oldest first; not all if it is much. Raises LogLost."""
        (entries,) = await self._read_logs([(log, place)])
        if isinstance(entries, Exception):
            raise entries
        return entries

    def read_with_others(self, log: Log, place: str) -> asyncio.Future[list[Entry]]:
        """The same, by one call with what others want now. Who wants the same gets the same."""
        answer: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault((log, place), []).append(answer)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_wanted())
        return answer

    def add(self, reader: Reader) -> None:
        self._readers.setdefault(reader.log.name.encode(), set()).add(reader)
        self._add(reader)

    def remove(self, reader: Reader) -> None:
        name = reader.log.name.encode()
        readers = self._readers.get(name, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(name, None)

    def put_off(self, one: Reader | Stream) -> None:
        """It is due in a while."""
        one.due = time.monotonic() + _varied(self._quiet_seconds)
        if isinstance(one, Stream):
            one.due = min(one.due, one.ends)

    # Reading.

    async def _read_wanted(self) -> None:
        """The one reader: reads what is wanted by now, then what was wanted meanwhile."""
        while self._wanted:
            await asyncio.sleep(0)  # the others that the same message woke ask now
            some = list(islice(self._wanted, LOGS_A_ROUND))
            answers = [self._wanted.pop(one) for one in some]
            try:
                found: list[_Found] = await self._read_logs(some)
            except Exception as error:  # noqa: BLE001 (whoever waits is told)
                found = [error] * len(some)
            except asyncio.CancelledError:
                for answer in chain(*answers, *self._wanted.values()):
                    answer.cancel()
                raise
            for waiting, entries in zip(answers, found, strict=True):
                for answer in waiting:
                    if answer.done():  # its stream has ended
                        continue
                    if isinstance(entries, Exception):
                        answer.set_exception(entries)
                    else:
                        answer.set_result(entries)

    async def _read_logs(self, wanted: list[tuple[Log, str]]) -> "list[_Found]":
        """For each log what it holds after a place, or why not: LogLost, for one."""
        found: list[Any] = [b"later"] * len(wanted)
        while left := [number for number, flat in enumerate(found) if flat == b"later"]:
            together = 1 if self._store.cluster else LOGS_A_CALL
            calls = [left[first : first + together] for first in range(0, len(left), together)]
            answers = await asyncio.gather(
                *(self._call([wanted[number] for number in call]) for call in calls)
            )
            for call, answer in zip(calls, answers, strict=True):
                for number, flat in zip(call, answer, strict=True):
                    found[number] = flat
        added = {
            int(what)
            for flat in found
            if isinstance(flat, list)
            for kind, what in zip(flat[1::4], flat[2::4], strict=True)
            if kind == b"a"
        }
        bodies = await self._bodies_of(list(added))
        return [
            _entries(flat, bodies) if isinstance(flat, list) else _failed(flat) for flat in found
        ]

    async def _call(self, wanted: list[tuple[Log, str]]) -> list[Any]:
        """What the script says of some logs; the error, of one that cannot be read."""
        rest: list[Arg] = [ENTRIES_A_READ, ENTRIES_A_CALL]
        for one, place in wanted:
            rest += (one.name, place)
        try:
            shards = [one.shard for one, _ in wanted]
            return list(await self._store.script("live_read", shards, *rest))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (it ends the stream that follows it)
            if len(wanted) == 1:
                return [error]
            return [found for one in wanted for found in await self._call([one])]

    async def _bodies_of(self, added: list[int]) -> dict[int, bytes | None]:
        some = [
            added[first : first + BODIES_A_CALL] for first in range(0, len(added), BODIES_A_CALL)
        ]
        found = await asyncio.gather(*(read_bodies(self._store, part) for part in some))
        return {
            one: body
            for part, bodies in zip(some, found, strict=True)
            for one, body in zip(part, bodies, strict=True)
        }

    # Waking.

    async def _listen(self) -> None:
        """Wakes those of whose log the channel says that it has grown."""
        channels = [keys.wake(tag) for tag in self._store.tags]
        while True:
            try:
                async with self._store.redis.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(*channels)
                    async for message in channel.listen():
                        if message["type"] == "message":
                            for name in message["data"].split(b"\0"):
                                self._wake(name)
                        elif message["type"] == "subscribe":
                            # New or again: what was said before it was not heard.
                            self._wake_all()
                        await asyncio.sleep(0)  # redis-py goes on while it has something
            except (RedisError, OSError) as error:
                log.warning("not listening for wake-ups: %s", type(error).__name__)
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _wake_all(self) -> None:
        for name in self._readers:
            self._wake(name)

    def _wake(self, name: bytes) -> None:
        for reader in self._readers.get(name, ()):
            reader.stream.wake(reader)

    async def _tick(self) -> None:
        """Fires what is due. Who has been put off meanwhile is put where it belongs now."""
        last = self._tick_of(time.monotonic())
        while True:
            await asyncio.sleep(self._tick_seconds)
            now = self._tick_of(time.monotonic())
            for tick in range(last, now):
                for one in self._due.pop(tick, ()):
                    if one.closed:
                        continue
                    if self._tick_of(one.due) <= tick:
                        one.fire()
                        self.put_off(one)
                    self._put(one)
            last = now
            self._cut()

    def _add(self, one: Reader | Stream) -> None:
        self.put_off(one)
        self._put(one)

    def _put(self, one: Reader | Stream) -> None:
        tick = max(self._tick_of(one.due), self._tick_of(time.monotonic()) + 1)
        self._due.setdefault(tick, []).append(one)

    def _cut(self) -> None:
        now = time.monotonic()
        for stream in self._streams:
            if stream.must_go_on < now and not stream.cut:
                stream.cut = True
                stream.task.cancel()

    def _tick_of(self, moment: float) -> int:
        return int(moment / self._tick_seconds)


def _entries(flat: list[bytes], bodies: dict[int, bytes | None]) -> list[Entry]:
    return [
        Entry(
            place.decode(),
            _KINDS[kind],
            what.decode(),
            route.decode(),
            bodies[int(what)] if kind == b"a" else None,
        )
        for place, kind, what, route in zip(
            flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True
        )
    ]


def _failed(said: Any) -> Exception:
    return said if isinstance(said, Exception) else LogLost()


def _varied(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
