"""Health: checks about every second what the store can do.

A check has a connection of its own. It asks for the role, the record, the clock and the eras, and
whether the store takes writes. Each change of the store's condition is logged once and reported to
listeners, by which a server sets the health of its services.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from feedsvc.core.store import Store
from feedsvc.core.store_errors import ForeignStore, NotPrimary
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between checks, and seconds after which a store that does not answer a check is gone.
CHECK_SECONDS, GONE_SECONDS = 1.0, 2.5


class Condition(Enum):
    """What a store can do; the value is the message for operators."""

    READY = "the store is ready"
    REFUSES_WRITES = (
        "the store refuses writes (out of memory, a failing disk, or too few replicas): "
        "only reads are answered until it takes writes again"
    )
    LOADING = "the store is loading its data: nothing is served until it has"
    REPLICA = "the store is a replica: nothing is served until its primary is found"
    FOREIGN = "the store is not the store that the server started with: nothing is served"
    GONE = "the store does not answer: nothing is served until it does"

    @property
    def reads(self) -> bool:
        """True if the store answers reads."""
        return self in (Condition.READY, Condition.REFUSES_WRITES)


Listener = Callable[[Condition], Awaitable[None]]


class Heartbeat:
    """The regular check of the store of a process."""

    def __init__(self, store: Store) -> None:
        self._store = store.sibling()
        self._listeners: list[Listener] = []
        self.condition = Condition.READY
        """The condition at the last check; a store that was opened is ready."""

    async def listen(self, listener: Listener) -> None:
        """Call the listener with the condition now, and again whenever the condition changes."""
        self._listeners.append(listener)
        await listener(self.condition)

    async def run(self) -> None:
        """Check the store, and report changes, until cancelled."""
        while True:
            condition, reason = await self._check()
            if condition is not self.condition:
                self.condition = condition
                level = logging.INFO if condition is Condition.READY else logging.ERROR
                log.log(level, "%s%s", condition.value, f": {reason}" if reason else "")
                for listener in self._listeners:
                    await listener(condition)
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> tuple[Condition, str]:
        """Return the store's condition, and a reason for operators or an empty text."""
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await self._store.rediscover()
                writable = await self._store.examine()
        except ForeignStore as error:
            return Condition.FOREIGN, error.reason
        except NotPrimary:
            return Condition.REPLICA, ""
        except BusyLoadingError:
            return Condition.LOADING, ""
        except ResponseError as error:
            return Condition.GONE, str(error)
        except (RedisError, OSError, StoreUnavailable):
            return Condition.GONE, ""
        return Condition.READY if writable else Condition.REFUSES_WRITES, ""
