"""Live feeds: logs that tell in order what happened to a feed, and wake-ups to read them.

The log is the truth; the channel only wakes. Whoever waits reads the log first, and reads it again
after every wake-up, after every reconnection of the channel, and from time to time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from redis.exceptions import RedisError

from feedsvc.core import ids, keys
from feedsvc.core.store import Store

log = logging.getLogger(__name__)

#: Entries that one read of a log returns at the most.
ENTRIES_A_READ = 100
#: Seconds between attempts to listen to the channel again.
LISTEN_AGAIN_SECONDS = 0.2
#: Seconds after which a listener that has not ended is cancelled again.
CANCEL_AGAIN_SECONDS = 0.1

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


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a live log."""

    place: str
    """Its id in the log: ``<n>-<nonce>``."""
    kind: Kind
    what: str
    """The activity's id, or the entity that was followed or unfollowed."""


class Live:
    """The live logs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None
        self.draining = False
        """The server is stopping: whoever waits is to leave."""

    def start(self) -> None:
        """Begins to listen for wake-ups."""
        self._listener = asyncio.create_task(self._listen())

    def drain(self) -> None:
        """Wakes all who wait, for the last time."""
        self.draining = True
        self._wake_all()

    async def close(self) -> None:
        # Again and again: while it connects, redis-py may swallow a cancellation.
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()
            await asyncio.wait([self._listener], timeout=CANCEL_AGAIN_SECONDS)

    def _shard(self, user: str) -> int:
        return ids.shard_for(user, self._store.limits.shards)

    async def open(self, user: str) -> str:
        """Makes a user live, or keeps it so for another lease; the place at the end of its log."""
        place: bytes = await self._store.script("live_open", self._shard(user), user)
        return place.decode()

    async def read(self, user: str, place: str) -> list[Entry]:
        """What the log holds after a place, oldest first; not all if it is much. Raises LogLost."""
        flat = await self._store.script("live_read", self._shard(user), user, place, ENTRIES_A_READ)
        if flat == b"lost":
            raise LogLost
        return [
            Entry(at.decode(), _KINDS[kind], what.decode())
            for at, kind, what in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]

    @contextlib.contextmanager
    def wake_ups(self, user: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the user's log may have grown."""
        event = asyncio.Event()
        name = user.encode()
        self._waiting.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting[name]
            events.discard(event)
            if not events:
                del self._waiting[name]

    async def _listen(self) -> None:
        channels = [keys.wake(tag) for tag in self._store.tags]
        while True:
            try:
                async with self._store.redis.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(*channels)
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._wake(message["data"])
                        elif message["type"] == "subscribe":
                            # New or again: what was said before it was not heard.
                            self._wake_all()
            except (RedisError, OSError) as error:
                log.warning("not listening for wake-ups: %s", type(error).__name__)
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _wake_all(self) -> None:
        for name in self._waiting:
            self._wake(name)

    def _wake(self, name: bytes) -> None:
        for event in self._waiting.get(name, ()):
            event.set()
