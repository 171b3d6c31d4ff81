"""The faults of runs of streams, some of which strike only what streams stand on."""

import random
import time
from collections.abc import Awaitable, Callable

from feedsvc.core import keys
from tests.harness.faults import Cause, Faults
from tests.streams.history import StreamHistory
from tests.streams.stage import StreamStage

#: Seconds between faults, on average.
MEAN_INTERVAL = 0.25
#: Most entries that a trimmed log keeps.
MAX_KEPT = 3
#: How often each fault strikes.
WEIGHTS = {
    "server killed": 8,
    "server restarted": 8,
    "server paused": 8,
    "worker killed": 4,
    "store killed": 6,
    "replies cut": 8,
    "messages cut": 14,
    "wake-ups cut": 14,
    "wake-ups stalled": 8,
    "store slow": 6,
    "store full": 2,
    "log trimmed": 5,
    "log deleted": 3,
    "feeds expired": 8,
    "scripts flushed": 4,
}


class StreamFaults(Faults):
    """Breaks what streams stand on until it is cancelled."""

    def __init__(self, stage: StreamStage, history: StreamHistory, chance: random.Random) -> None:
        super().__init__(stage, history, chance, WEIGHTS, MEAN_INTERVAL)
        self._fronts = stage.fronts
        self._broken_logs = history.broken_logs

    def causes(self) -> dict[str, Cause]:
        return super().causes() | {
            "messages cut": self._cut_messages,
            "wake-ups cut": self._cut_wake_ups,
            "wake-ups stalled": self._stall_wake_ups,
            "log trimmed": self._trim_log,
            "log deleted": self._delete_log,
        }

    async def _cut_messages(self) -> None:
        """Cut what a server sends to subscribers, at any byte."""
        front = self._chance.choice(self._fronts)
        await self._cut("messages cut", front, of=f"of {front.name}, ")

    async def _cut_wake_ups(self) -> None:
        """Cut the connections that wake servers up, and no others."""
        await self._change_store(
            "wake-ups cut", lambda: self._stage.redis.client_kill_filter(_type="pubsub")
        )

    async def _stall_wake_ups(self) -> None:
        """Keep the connections that wake servers up open, but let nothing through."""
        self._note("wake-ups stalled")
        self._stage.proxy.silence_subscribers()

    async def _trim_log(self) -> None:
        async def trim(log_key: bytes) -> None:
            kept = self._chance.randint(1, MAX_KEPT)
            await self._stage.redis.xtrim(log_key, maxlen=kept, approximate=False)

        await self._break_log("log trimmed", trim)

    async def _delete_log(self) -> None:
        async def delete(log_key: bytes) -> None:
            await self._stage.redis.delete(log_key)

        await self._break_log("log deleted", delete)

    async def _break_log(self, kind: str, change: Callable[[bytes], Awaitable[None]]) -> None:
        """Change a log at random, unless the store is down."""
        with self._reserve(self._stage.primary.process) as is_free:
            if not is_free:
                return
            log_keys = [key async for key in self._stage.redis.scan_iter("{*}l:*", count=1_000)]
            if log_keys:
                log_key = self._chance.choice(sorted(log_keys))
                name = _name_of_log(log_key.decode().partition(":")[2])
                self._note(kind, name)
                self._broken_logs.append((time.monotonic(), name))
                await change(log_key)


def _name_of_log(stored_name: str) -> str:
    """Return the name of a log as `Subject.log_name` gives it."""
    if stored_name.startswith(keys.ALL_LOG):
        return "all"
    if stored_name.startswith(keys.OUTBOX_LOG):
        return f"outbox {stored_name[1:]}"
    return f"feed {stored_name}"
