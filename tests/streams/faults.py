"""What is broken under streams, beside what is broken under every call."""

import asyncio
import random
import time

from feedsvc.core import keys
from tests.faults.faults import CUTTING_SECONDS, Faults
from tests.streams.history import StreamHistory
from tests.streams.stage import StreamStage

#: Seconds between faults, on average.
BETWEEN_SECONDS = 0.25
#: Entries that a trimmed log keeps, at the most.
KEPT = 3


class StreamFaults(Faults):
    """Breaks what streams stand on until it is cancelled; ``heal`` mends all that is broken."""

    def __init__(self, stage: StreamStage, history: StreamHistory, chance: random.Random) -> None:
        super().__init__(stage, history, chance, BETWEEN_SECONDS)
        self._streams = stage
        self._told = history
        self._kinds = {
            "server killed": (8, self._kill_server),
            "server restarted": (8, self._restart_server),
            "server paused": (8, self._pause_server),
            "worker killed": (4, self._kill_worker),
            "store killed": (6, self._kill_store),
            "replies cut": (8, self._cut_replies),
            "messages cut": (14, self._cut_messages),
            "wake-ups cut": (14, self._cut_wake_ups),
            "wake-ups stalled": (8, self._stall_wake_ups),
            "store slow": (6, self._slow_store),
            "store full": (2, self._fill_store),
            "log trimmed": (5, self._trim_log),
            "log deleted": (3, self._delete_log),
            "feeds expired": (8, self._expire_feeds),
            "scripts flushed": (4, self._flush_scripts),
        }

    async def _cut_messages(self) -> None:
        """Cuts what a server sends to subscribers, at any byte."""
        front = self._chance.choice(self._streams.fronts)
        if front.cutting:
            return
        front.cutting = self._chance.choice([0.02, 0.1, 0.5])
        self._note("messages cut", f"of {front.name}, one in {1 / front.cutting:.0f}")
        await asyncio.sleep(self._chance.uniform(*CUTTING_SECONDS))
        front.cutting = 0.0

    async def _cut_wake_ups(self) -> None:
        """Cuts the connections by which servers hear of what happens, and no others."""
        await self._directly(
            "wake-ups cut", lambda: self._stage.redis.client_kill_filter(_type="pubsub")
        )

    async def _stall_wake_ups(self) -> None:
        """The connections by which servers hear of what happens stay open and bring nothing."""
        self._note("wake-ups stalled")
        self._stage.proxy.silence_subscribers()

    async def _trim_log(self) -> None:
        await self._directly("log trimmed", lambda: self._break_log(trim=True))

    async def _delete_log(self) -> None:
        await self._directly("log deleted", lambda: self._break_log(trim=False))

    async def _break_log(self, *, trim: bool) -> None:
        redis = self._stage.redis
        logs = sorted([key async for key in redis.scan_iter(match="{*}l:*", count=1_000)])
        if not logs:
            return
        key = self._chance.choice(logs)
        name = _named(key.decode().partition(":")[2])
        self._note("log trimmed" if trim else "log deleted", name)
        self._told.broken_logs.append((time.monotonic(), name))
        if trim:
            await redis.xtrim(key, maxlen=self._chance.randint(1, KEPT), approximate=False)
        else:
            await redis.delete(key)


def _named(log: str) -> str:
    """A log by what it is about, as ``log_name`` names it."""
    if log.startswith(keys.ALL_LOG):
        return "all"
    if log.startswith(keys.OUTBOX_LOG):
        return f"outbox {log[1:]}"
    return f"feed {log}"
