"""Faults that strike a stage at random and are mended after a moment."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from redis.exceptions import RedisError

from feedsvc.core.transport import ROLE_SECONDS
from tests.harness.history import Fault, History, Loss
from tests.harness.processes import Process, ProcessDied
from tests.harness.proxy import RandomProxy
from tests.harness.server import Server
from tests.harness.stage import Stage
from tests.harness.store import Store

#: Seconds until a killed process is started again, at the most: before, while and after callers
#: have retried.
DOWN_SECONDS = (0.05, 0.5, 2.0)
#: Seconds for which a process is paused: shorter and longer than a job's lease, which is 1 second.
PAUSE_SECONDS = (0.3, 2.5)
#: Seconds for which replies are cut or held back.
DISTURBED_SECONDS = (0.1, 0.6)
#: Probabilities with which a proxy cuts a reply.
CUT_PROBABILITIES = [0.02, 0.1, 0.5]
#: Seconds for which two stores take writes, at the most: before, while and after servers look at
#: their store's role.
SPLIT_SECONDS = (0.05, 0.3, 1.5)
#: The probability that a failover kills the old primary.
KILL_PROBABILITY = 0.4
#: Bytes before the end of the kept part at which the file of a store is cut.
RAGGED_BYTES = 100
#: Seconds between two marks in the store.
MARK_SECONDS = 0.05

Cause = Callable[[], Coroutine[Any, Any, None]]


class Faults:
    """Breaks a stage until it is cancelled; `heal` waits until everything is mended.

    A kind of run chooses among the faults by their weights. A fault with weight 0 never strikes.
    """

    def __init__(
        self,
        stage: Stage,
        history: History,
        chance: random.Random,
        weights: Mapping[str, int],
        mean_interval: float,
    ) -> None:
        """Take the weight of each kind of fault, and the mean of the seconds between two faults."""
        self._stage = stage
        self._history = history
        self._chance = chance
        self._weights = weights
        self._mean_interval = mean_interval
        self._under_way: set[asyncio.Task[None]] = set()
        self._busy: set[Process] = set()
        """Processes that a fault has broken, and other faults leave alone."""
        self._is_over = False
        self._file_sizes: list[int] = []
        """Bytes of the store's file at its last marks."""
        self._causes = self.causes()

    def causes(self) -> dict[str, Cause]:
        """Return the function that causes each kind of fault."""
        return {
            "server killed": self._kill_server,
            "server restarted": self._restart_server,
            "server paused": self._pause_server,
            "worker killed": self._kill_worker,
            "worker paused": self._pause_worker,
            "store killed": self._kill_store,
            "tail lost": self._lose_tail,
            "store failed over": self._fail_over,
            "replies cut": self._cut_replies,
            "store slow": self._slow_store,
            "store full": self._fill_store,
            "scripts flushed": self._flush_scripts,
            "feeds expired": self._expire_feeds,
            "clock stepped": self._step_clock,
        }

    async def run(self) -> None:
        """Cause faults until the task is cancelled."""
        marking = asyncio.create_task(self._mark())
        kinds, weights = list(self._weights), list(self._weights.values())
        try:
            while True:
                await asyncio.sleep(self._chance.expovariate(1 / self._mean_interval))
                (kind,) = self._chance.choices(kinds, weights)
                self._under_way.add(asyncio.create_task(self._causes[kind]()))
        finally:
            self._is_over = True
            await asyncio.shield(marking)  # redis-py may swallow a cancellation

    async def heal(self) -> None:
        """Wait until all faults are mended. Raise the error of a fault that cannot be mended."""
        await asyncio.gather(*self._under_way)

    def _note(self, kind: str, text: str = "") -> None:
        fault = Fault(kind, time.monotonic(), f"{kind}{': ' if text else ''}{text}")
        self._history.faults.append(fault)

    @contextlib.contextmanager
    def _reserve(self, *processes: Process) -> Iterator[bool]:
        """Keep other faults from processes; yield False if another fault has one of them."""
        if self._busy.intersection(processes):
            yield False
            return
        self._busy.update(processes)
        yield True
        self._busy.difference_update(processes)

    async def _sleep_up_to(self, longest_seconds: tuple[float, ...]) -> None:
        """Sleep for a random time, up to a limit that is chosen at random too."""
        await asyncio.sleep(self._chance.choice(longest_seconds) * self._chance.random())

    # Processes.

    async def _kill_server(self) -> None:
        server = self._chance.choice(self._stage.servers)
        await self._kill("server killed", server.process, server.kill, server.start)

    async def _kill_worker(self) -> None:
        worker = self._stage.worker
        await self._kill("worker killed", worker, worker.kill, self._stage.start_worker)

    async def _kill_store(self) -> None:
        store = self._stage.primary.process
        await self._kill("store killed", store, store.kill, self._stage.start_store)

    async def _kill(
        self,
        kind: str,
        process: Process,
        kill: Callable[[], Any],
        start: Callable[[], Awaitable[Any]],
    ) -> None:
        with self._reserve(process) as is_free:
            if is_free:
                self._note(kind, process.name)
                kill()
                await self._sleep_up_to(DOWN_SECONDS)
                await start()

    async def _restart_server(self) -> None:
        """Stop a server as its operator would, and start it again."""
        server = self._chance.choice(self._stage.servers)
        with self._reserve(server.process) as is_free:
            if not is_free:
                return
            self._note("server restarted", server.process.name)
            try:
                await server.stop()
            except ProcessDied as error:
                self._history.complaints.append(str(error))
            await server.start()

    async def _pause_server(self) -> None:
        await self._pause("server paused", self._chance.choice(self._stage.servers).process)

    async def _pause_worker(self) -> None:
        await self._pause("worker paused", self._stage.worker)

    async def _pause(self, kind: str, process: Process) -> None:
        with self._reserve(process) as is_free:
            if is_free:
                seconds = self._chance.uniform(*PAUSE_SECONDS)
                self._note(kind, f"{process.name} for {seconds:.1f} s")
                process.pause()
                await asyncio.sleep(seconds)
                process.resume()

    # Losses.

    async def _fail_over(self) -> None:
        """Promote the standby; demote the old primary late, or kill it and start it as a replica.

        Until the old primary is demoted it takes writes on open connections. These writes are lost.
        """
        old, new = self._stage.stores
        with self._reserve(old.process, new.process) as is_free:
            if not is_free or not await new.holds_all_of(old):
                return
            is_killed = self._chance.random() < KILL_PROBABILITY
            fate = "dies" if is_killed else "goes on"
            self._note("store failed over", f"{old.process.name} {fate}")
            if is_killed:
                old.process.kill()
                await self._sleep_up_to(DOWN_SECONDS)
            await new.promote()
            began, kept_until = time.monotonic(), await new.read_mark()
            self._stage.switch_to_standby()
            if is_killed:
                # The old primary is dead: all answers that it gave are older than this moment.
                self._history.losses.append(Loss(kept_until, began))
                await self._sleep_up_to(DOWN_SECONDS)
                await old.start(new)
                return
            await self._sleep_up_to(SPLIT_SECONDS)
            await old.demote(new)
            # The old primary takes no more writes, but a server may read from it until the server
            # looks at its role.
            self._history.losses.append(Loss(kept_until, time.monotonic() + ROLE_SECONDS))

    async def _lose_tail(self) -> None:
        """Kill the store and remove the last writes from its file, up to any byte of a write."""
        store = self._stage.primary.process
        with self._reserve(store) as is_free:
            if not is_free or not self._file_sizes:
                return
            store.kill()
            (file,) = self._stage.primary.growing_files()
            size = file.stat().st_size
            sizes = [*self._file_sizes, size]
            kept_size = self._chance.choice(sizes)
            # The store may have cut off a ragged end since, so the first size may not be the least.
            kept_size -= self._chance.randrange(min(RAGGED_BYTES, kept_size - min(sizes) + 1))
            os.truncate(file, kept_size)
            self._note("tail lost", f"{size - kept_size} bytes")
            self._file_sizes.clear()
            await self._sleep_up_to(DOWN_SECONDS)
            await self._stage.start_store()
            kept_until = await self._stage.primary.read_mark()
            self._history.losses.append(Loss(kept_until, time.monotonic()))

    async def _mark(self) -> None:
        """Write marks, and remember the sizes that the store's file had in the last second."""
        while self._stage.mode != "durable" and not self._is_over:
            store = self._stage.primary
            if store.process not in self._busy:
                with contextlib.suppress(RedisError, RuntimeError):  # a fault killed the store
                    await store.write_mark()
                    sizes = [file.stat().st_size for file in self._stage.primary.growing_files()]
                    self._file_sizes = [*self._file_sizes, *sizes][-1 - round(1 / MARK_SECONDS) :]
            await asyncio.sleep(MARK_SECONDS)

    # Connections.

    async def _cut_replies(self) -> None:
        await self._cut("replies cut", self._stage.proxy)

    async def _cut(self, kind: str, proxy: RandomProxy, of: str = "") -> None:
        """Cut the replies that pass a proxy, at any byte."""
        if proxy.cut_probability:
            return
        proxy.cut_probability = self._chance.choice(CUT_PROBABILITIES)
        self._note(kind, f"{of}one in {1 / proxy.cut_probability:.0f}")
        await asyncio.sleep(self._chance.uniform(*DISTURBED_SECONDS))
        proxy.cut_probability = 0.0

    async def _slow_store(self) -> None:
        proxy = self._stage.proxy
        if proxy.max_delay:
            return
        proxy.max_delay = self._chance.choice([0.002, 0.01, 0.05])
        self._note("store slow", f"up to {proxy.max_delay * 1000:.0f} ms a reply")
        await asyncio.sleep(self._chance.uniform(*DISTURBED_SECONDS))
        proxy.max_delay = 0.0

    # Data.

    async def _fill_store(self) -> None:
        """Let the store reach its memory limit, until an operator raises the limit."""

        async def fill() -> None:
            await self._stage.redis.config_set("maxmemory", 1)
            await asyncio.sleep(self._chance.uniform(*DISTURBED_SECONDS))
            await self._stage.redis.config_set("maxmemory", 0)

        await self._change_store("store full", fill)

    async def _flush_scripts(self) -> None:
        await self._change_store("scripts flushed", self._stage.redis.script_flush)

    async def _expire_feeds(self) -> None:
        await self._change_store("feeds expired", lambda: self._stage.expire_feeds(self._chance))

    async def _change_store(self, kind: str, change: Callable[[], Awaitable[Any]]) -> None:
        """Change the store's data unless the store is down; no fault kills the store meanwhile."""
        with self._reserve(self._stage.primary.process) as is_free:
            if is_free:
                self._note(kind)
                await change()

    # Clocks.

    async def _step_clock(self) -> None:
        """Set a clock back by seconds or up to an hour, or right again; a server's also ahead."""
        clocked: list[Server | Store] = [*self._stage.servers, *self._stage.stores]
        target = self._chance.choice(clocked)
        longest = self._chance.choice([0, 2, 30, 3600])
        seconds = -self._chance.randint(longest // 2, longest)
        if isinstance(target, Server) and self._chance.random() < 0.5:
            seconds = -seconds
        if target.clock.step(seconds):
            self._note("clock stepped", f"{target.process.name} to {seconds} s")
