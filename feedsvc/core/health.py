"""Health: checks about every second what the store can do.

A check has a connection of its own. It asks for the role, the record, the clock and the eras, and
whether the store takes writes. Only this module logs the store's state: once for each change, with
the cause and the action to take. Listeners learn of each change, by which a server sets the health
of its services.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from redis.exceptions import BusyLoadingError

from feedsvc.core import causes
from feedsvc.core.causes import NO_CAUSE, Cause
from feedsvc.core.log_limits import LogLimit, Rate, counted
from feedsvc.core.store import Store
from feedsvc.core.store_errors import ForeignStore, NotPrimary, is_full

log = logging.getLogger(__name__)

#: Seconds between checks, and seconds after which a store that does not answer a check is gone.
CHECK_SECONDS, GONE_SECONDS = 1.0, 2.5
#: Seconds of a check from which the check is slow, and number of slow checks in a row after which
#: the store is. As many faster checks end that.
SLOW_SECONDS, SLOW_CHECKS = 0.5, 2
#: Budget of the changes that the log has; of a store that changes all the time, the log has the
#: number of changes, once in so many seconds.
CHANGES, CHANGES_SUMMARY_SECONDS = Rate(8, 60.0), 30.0


class Condition(Enum):
    """What a store can do; the value is how the log says it."""

    READY = "is ready"
    SLOW = "is slow"
    FULL = "is full"
    READ_ONLY = "is read-only"
    LOADING = "is loading its data"
    REPLICA = "is a replica"
    FOREIGN = "cannot be used"
    GONE = "is gone"

    @property
    def reads(self) -> bool:
        """True if the store answers reads."""
        return self in (*_WRITABLE, Condition.FULL, Condition.READ_ONLY)

    @property
    def writes(self) -> bool:
        """True if the store takes writes."""
        return self in _WRITABLE

    @property
    def consequence(self) -> str:
        """What the condition means for calls and deliveries."""
        match self:
            case Condition.READY:
                return ""
            case Condition.SLOW:
                return "Calls and deliveries succeed, but late"
            case Condition.FULL | Condition.READ_ONLY:
                return "Reads succeed, writes fail with UNAVAILABLE, deliveries wait"
            case _:
                return "Calls fail with UNAVAILABLE, deliveries wait"

    @property
    def level(self) -> int:
        """The level of the line that says that the condition has begun."""
        match self:
            case Condition.READY:
                return logging.INFO
            case Condition.SLOW | Condition.LOADING:
                return logging.WARNING
            case _:
                return logging.ERROR


_WRITABLE = (Condition.READY, Condition.SLOW)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    condition: Condition
    cause: Cause = NO_CAUSE


READY = Finding(Condition.READY)

Listener = Callable[[Condition], Awaitable[None]]


class Heartbeat:
    """The regular check of the store of a process."""

    def __init__(self, store: Store) -> None:
        self._store = store.sibling()
        self._listeners: list[Listener] = []
        self.condition = Condition.READY
        """The condition at the last check; a store that was opened is ready."""
        self._logged = Condition.READY
        """The condition that the log has, or that its summary counts."""
        self._left_ready = 0.0
        """When the store stopped to be ready."""
        self._is_slow = False
        self._checks_otherwise = 0
        """Number of the last checks in a row that were slow, if the store is not; or vice versa."""
        self._primary = ""
        """The node that Sentinels called primary at the last check that reached a primary."""
        self._changes = LogLimit(
            log, self._summary, CHANGES, summary_seconds=CHANGES_SUMMARY_SECONDS
        )

    async def listen(self, listener: Listener) -> None:
        """Call the listener with the condition now, and again whenever the condition changes."""
        self._listeners.append(listener)
        await listener(self.condition)

    async def run(self) -> None:
        """Check the store, and report changes, until cancelled."""
        while True:
            finding = await self._check()
            self._log_change(finding)
            if finding.condition is not self.condition:
                self.condition = finding.condition
                for listener in self._listeners:
                    await listener(finding.condition)
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> Finding:
        """Return the store's condition and the cause."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await self._store.rediscover()
                return await self._examine()
        except ForeignStore as error:
            return Finding(Condition.FOREIGN, Cause(error.reason))
        except NotPrimary:
            return Finding(Condition.REPLICA, causes.REPLICA)
        except BusyLoadingError as error:
            return Finding(Condition.LOADING, causes.loading(error))
        except Exception as error:
            cause = causes.of_failure(error, time.monotonic() - began)
            if cause is None:
                raise
            return Finding(Condition.GONE, cause)

    async def _examine(self) -> Finding:
        """Return the condition of a primary that answers."""
        began = time.monotonic()
        refusal = await self._store.examine()
        seconds = time.monotonic() - began
        self._note_primary()
        is_slow = self._note_pace(is_slow=seconds >= SLOW_SECONDS)
        if refusal is not None:
            return await self._refusing_writes(refusal)
        return Finding(Condition.SLOW, causes.slow(seconds)) if is_slow else READY

    async def _refusing_writes(self, refusal: Exception) -> Finding:
        if is_full(refusal):
            return Finding(Condition.FULL, causes.full(*await self._store.memory()))
        return Finding(Condition.READ_ONLY, causes.read_only(refusal))

    def _note_pace(self, *, is_slow: bool) -> bool:
        """Note whether a check was slow; return whether the store is."""
        self._checks_otherwise = 0 if is_slow is self._is_slow else self._checks_otherwise + 1
        if self._checks_otherwise >= SLOW_CHECKS:
            self._is_slow, self._checks_otherwise = is_slow, 0
        return self._is_slow

    def _note_primary(self) -> None:
        """Log that Sentinels have made another node the primary."""
        primary, self._primary = self._primary, self._store.primary
        if primary and primary != self._primary and self._changes.admits(logging.INFO, "change"):
            log.info(
                "the primary of the store %s is %s now, not %s",
                *(self._store.address, self._primary, primary),
            )

    def _log_change(self, finding: Finding) -> None:
        """Log a condition that is new. Log that the store loads only if it takes a while."""
        is_first = finding.condition is not self.condition
        if finding.condition is self._logged or (
            finding.condition is Condition.LOADING and is_first
        ):
            return
        now = time.monotonic()
        if self._logged is Condition.READY:
            self._left_ready = now
        self._logged = finding.condition
        level = finding.condition.level
        # One kind, so that no line of a pair is left out alone.
        if not self._changes.admits(level, "change", finding.condition.name):
            return
        if finding.condition is Condition.READY:
            seconds = now - self._left_ready
            log.info("the store %s is ready again after %.1f s", self._store.address, seconds)
            return
        cause = finding.cause
        text = f"{finding.condition.value}: {cause.text}" if cause.text else finding.condition.value
        sentences = [text, finding.condition.consequence, cause.action]
        log.log(
            *(level, "the store %s %s", self._store.address),
            ". ".join(sentence for sentence in sentences if sentence),
        )

    def _summary(self, count: int, seconds: int) -> str:
        return (
            f"{counted(count, 'change')} of the store {self._store.address} in the last "
            f"{seconds} s; now it {self.condition.value}"
        )
