"""Live logs: what happened, in order, and streams that follow them.

There is a log for each feed and each outbox that somebody follows, and one in each shard of all
that is published there. The log is the truth; the channel only wakes. Whoever follows a log reads
it first, and again after every wake-up, after every reconnection of the channel, and from time to
time.

Streams (``streams.py``) say which logs they want to have read, and from where on: those of all that
want something in the same moment are read together.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from redis.exceptions import RedisError

from feedsvc.core import ids, keys, tasks
from feedsvc.core.activities import read_bodies
from feedsvc.core.store import Arg, Store
from feedsvc.core.streams import ENTRIES_A_READ, Entry, Found, Kind, Log, Reader, Stream
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Entries that all reads of one call return at the most.
ENTRIES_A_CALL = 400
#: Logs that are read by one call, and at a time; bodies of activities that are read by one call.
LOGS_A_CALL, LOGS_A_ROUND, BODIES_A_CALL = 32, 128, 128
#: Bytes of bodies after which the rest of what a round of reads found is left to the next round.
BYTES_A_ROUND = 8_388_608
#: The same of bodies that one call gives beside the logs; others are asked for by themselves.
BYTES_A_CALL = 262_144
#: Readers that are told in one turn of the event loop: as many as, with the streams that they wake,
#: take so many seconds, after which others are served; and the least and the most of them.
TURN_SECONDS, LEAST_A_TURN, TOLD_A_TURN = 0.001, 4, 16
#: Seconds between attempts to listen to the channel again.
LISTEN_AGAIN_SECONDS = 0.2
#: Seconds between the words that a process says to itself over the channel, and seconds after which
#: a channel that does not bring them is given up.
ECHO_SECONDS, DEAF_SECONDS = 1.0, 2.0
#: Seconds between looks at what is due, at the most.
TICK_SECONDS = 0.1
#: By how much times are varied, so that streams that began together do not go on together.
JITTER = 0.2

_KINDS: dict[bytes, Kind] = {
    b"c": "created",
    b"a": "added",
    b"r": "removed",
    b"f": "followed",
    b"u": "unfollowed",
}


class LogLost(Exception):
    """The log does not hold the entry to continue after: events are missing."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a call says of a log."""

    flat: Any
    """As ``live_read.lua`` gives it; an error, if that is what came of it."""
    bodies: dict[int, bytes | None]
    """The bodies of what was added to the logs of the call, as they were when these were read."""

    def added(self) -> set[int]:
        """The activities that were added."""
        if not isinstance(self.flat, list):
            return set()
        pairs = zip(self.flat[1::4], self.flat[2::4], strict=True)
        return {int(what) for kind, what in pairs if kind == b"a"}

    def entries(self, more: dict[int, bytes | None]) -> tuple[Found, bool]:
        """The entries up to the first whose body was not read, and whether there may be more.

        ``more`` has bodies that were read by themselves.
        """
        if isinstance(self.flat, Exception):
            return self.flat, False
        if not isinstance(self.flat, list):
            return LogLost(), False
        entries: list[Entry] = []
        fields = (self.flat[part::4] for part in range(4))
        for place, kind, what, route in zip(*fields, strict=True):
            body = None
            if kind == b"a":
                number = int(what)
                bodies = self.bodies if number in self.bodies else more
                if number not in bodies:
                    return entries, True
                body = bodies[number]
            entries.append(Entry(place.decode(), _KINDS[kind], what.decode(), route.decode(), body))
        return entries, len(entries) == ENTRIES_A_READ


class Live:
    """The live logs of a store, and who follows them here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers: dict[bytes, set[Reader]] = {}
        self._due: dict[int, list[Reader | Stream]] = {}
        """By tick: who is due then or has been put off."""
        self._wanted: dict[tuple[Log, str], list[Reader]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._a_turn = TOLD_A_TURN
        """Readers that are told in the next turn of the event loop."""
        self._echo = f"{keys.ECHO}{secrets.token_hex(8)}"
        """The channel over which this process hears itself."""
        self._heard = asyncio.Event()
        self._subscribed = False
        self._ticked = 0
        """The tick up to which everything that was due has been fired."""
        self._streams: set[Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()
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
        self._ticked = self._tick_of(time.monotonic())
        self._tasks = [
            tasks.supervised("the listener to wake-ups", self._listen),
            tasks.supervised("the clock of streams", self._tick),
        ]

    def drain(self, seconds: float) -> None:
        """Ends all streams in the course of some seconds."""
        self.draining = True
        now = time.monotonic()
        for number, stream in enumerate(self._streams):
            stream.ends = stream.due = now + seconds * number / len(self._streams)
            self._put(stream)

    async def idle(self) -> None:
        """Wait until there is no stream."""
        await self._idle.wait()

    async def close(self) -> None:
        for task in [*self._tasks, *([self._reading] if self._reading else [])]:
            await tasks.end(task)

    @contextlib.contextmanager
    def stream(self) -> Iterator[Stream]:
        """A stream, which follows nothing yet."""
        stream = Stream(self, 0.0 if self.draining else _varied(self._seconds))
        self._streams.add(stream)
        self._idle.clear()
        self._add(stream)
        try:
            yield stream
        finally:
            stream.close()
            self._streams.discard(stream)
            if not self._streams:
                self._idle.set()

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

    async def read(self, log: Log, place: str) -> tuple[list[Entry], bool]:
        """What a log holds after a place, oldest first, and whether there may be more.

        Raises LogLost.
        """
        ((entries, more),) = await self._read_logs([(log, place)])
        if isinstance(entries, Exception):
            raise entries
        return entries, more

    def want(self, reader: Reader) -> None:
        """Reads a log for a stream by one call with what others want now, and tells it."""
        self._wanted.setdefault((reader.log, reader.place), []).append(reader)
        if self._reading is None or self._reading.done():
            self._reading = tasks.supervised("the reader of logs", self._read_wanted)

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
            waiting = [self._wanted.pop(one) for one in some]
            for reader in chain(*waiting):
                reader.sent = True
            try:
                found: list[tuple[Found, bool]] = await self._read_logs(some)
            except Exception as error:  # noqa: BLE001 (whoever waits is told)
                found = [(error, False)] * len(some)
            told = 0
            for readers, (entries, more) in zip(waiting, found, strict=True):
                for reader in readers:
                    reader.stream.tell(reader, entries, more=more)
                    told += 1
                    if told >= self._a_turn:
                        await self._let_others(told)
                        told = 0

    async def _let_others(self, told: int) -> None:
        """Let the streams that were woken go on, and calls of others; see how long that takes."""
        began = time.monotonic()
        await asyncio.sleep(0)
        took = max(1e-6, time.monotonic() - began)
        self._a_turn = round(min(TOLD_A_TURN, max(LEAST_A_TURN, told * TURN_SECONDS / took)))

    async def _read_logs(self, wanted: list[tuple[Log, str]]) -> list[tuple[Found, bool]]:
        """For each log what it holds after a place, and whether there may be more.

        An exception says why it is not known what the log holds: LogLost, for one.
        """
        found = [_Answer(b"later", {})] * len(wanted)
        while left := [number for number, answer in enumerate(found) if answer.flat == b"later"]:
            together = 1 if self._store.cluster else LOGS_A_CALL
            calls = [left[first : first + together] for first in range(0, len(left), together)]
            answers = await asyncio.gather(
                *(self._call([wanted[number] for number in call]) for call in calls)
            )
            for call, answered in zip(calls, answers, strict=True):
                for number, answer in zip(call, answered, strict=True):
                    found[number] = answer
        missing = {one: None for answer in found for one in answer.added() - answer.bodies.keys()}
        more = await self._bodies_of(list(missing))
        return [answer.entries(more) for answer in found]

    async def _call(self, wanted: list[tuple[Log, str]]) -> list["_Answer"]:
        """What the script says of some logs; the error, of one that cannot be read."""
        rest: list[Arg] = [ENTRIES_A_READ, ENTRIES_A_CALL, BYTES_A_CALL]
        for one, place in wanted:
            rest += (one.name, place)
        try:
            shards = [one.shard for one, _ in wanted]
            *flats, frames = await self._store.script("live_read", shards, *rest)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (it ends the stream that follows it)
            if len(wanted) == 1:
                return [_Answer(error, {})]
            return [found for one in wanted for found in await self._call([one])]
        bodies = {
            int(one): frame or None for one, frame in zip(frames[::2], frames[1::2], strict=True)
        }
        return [_Answer(flat, bodies) for flat in flats]

    async def _bodies_of(self, added: list[int]) -> dict[int, bytes | None]:
        """The bodies of activities; of the first ones only, if all are too many bytes at a time."""
        bodies: dict[int, bytes | None] = {}
        size = 0
        for first in range(0, len(added), BODIES_A_CALL):
            part = added[first : first + BODIES_A_CALL]
            found = await read_bodies(self._store, part)
            bodies |= zip(part, found, strict=True)
            size += sum(map(len, filter(None, found)))
            if size >= BYTES_A_ROUND:
                break
        return bodies

    # Waking.

    async def _listen(self) -> None:
        """Listens, and begins again when listening ends or the channel has gone deaf.

        A connection that stalls without breaking, or leads to a node that is no primary any more,
        brings nothing and tells nothing.
        """
        while True:
            hearing = asyncio.create_task(self._hear())
            try:
                await self._until_deaf(hearing)
            finally:
                await tasks.end(hearing)
            error = None if hearing.cancelled() else hearing.exception()
            if error is None:
                log.warning("the channel for wake-ups brings nothing: connecting again")
            elif isinstance(error, (RedisError, OSError)):
                log.warning("not listening for wake-ups: %s", type(error).__name__)
            else:
                raise error
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _until_deaf(self, hearing: asyncio.Task[None]) -> None:
        """Waits until listening has ended, or does not hear what this process says."""
        hearing.add_done_callback(lambda _: self._heard.set())
        while not hearing.done():
            self._heard.clear()
            with contextlib.suppress(StoreUnavailable):
                subscribed = self._subscribed
                # By the store's connection, which is to the primary.
                receivers = await self._store.call("PUBLISH", self._echo, "")
                if subscribed and not receivers:
                    return  # it listens to another node, which may hear the same, but late
                try:
                    async with asyncio.timeout(DEAF_SECONDS):
                        await self._heard.wait()
                except TimeoutError:
                    return
            await asyncio.wait([hearing], timeout=ECHO_SECONDS)

    async def _hear(self) -> None:
        """Wakes those of whose log the channel says that it has grown."""
        channels = [keys.wake(tag) for tag in self._store.tags]
        self._subscribed = False
        async with self._store.redis.pubsub(ignore_subscribe_messages=False) as channel:
            await channel.subscribe(self._echo, *channels)
            echo = self._echo.encode()
            async for message in channel.listen():
                if message["channel"] == echo:  # it is subscribed to first
                    self._subscribed = True
                    self._heard.set()
                elif message["type"] == "message":
                    for name in message["data"].split(b"\0"):
                        self._wake(name)
                elif message["type"] == "subscribe":
                    # New or again: what was said before it was not heard.
                    self._wake_all()
                await asyncio.sleep(0)  # redis-py goes on while it has something

    def _wake_all(self) -> None:
        for name in self._readers:
            self._wake(name)

    def _wake(self, name: bytes) -> None:
        for reader in self._readers.get(name, ()):
            reader.stream.wake(reader)

    async def _tick(self) -> None:
        """Fires what is due. Who has been put off meanwhile is put where it belongs now."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            now = self._tick_of(time.monotonic())
            while self._ticked < now:
                # Taken out one by one: should firing fail, the others are fired all the same.
                due = self._due.get(self._ticked)
                while due:
                    self._fire(due.pop(), self._ticked)
                self._due.pop(self._ticked, None)
                self._ticked += 1
            self._cut()

    def _fire(self, one: Reader | Stream, tick: int) -> None:
        if one.closed:
            return
        try:
            if self._tick_of(one.due) <= tick:
                self.put_off(one)
                one.fire()
        finally:
            self._put(one)

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


def _varied(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
