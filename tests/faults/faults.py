"""What is broken, at random, and mended after a moment."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from feedsvc.core.transport import ROLE_SECONDS
from tests.faults.history import Fault, History, Loss
from tests.faults.stage import MARK_SECONDS, Server, Stage, Store
from tests.harness.processes import Process, ProcessDied

#: Seconds between faults, on average.
BETWEEN_SECONDS = 0.15
#: Seconds until what was killed is started again, at the most: before, while and after others have
#: tried it again.
DOWN_SECONDS = (0.05, 0.5, 2.0)
#: Seconds for which a process is stopped: shorter and longer than a job's lease, which is 1.
PAUSE_SECONDS = (0.3, 2.5)
#: Seconds for which replies are cut, or held back.
CUTTING_SECONDS = (0.1, 0.6)
#: Seconds for which two stores take writes, at the most: before, while and after servers look at
#: the role of theirs.
SPLIT_SECONDS = (0.05, 0.3, 1.5)
#: The probability that the old primary is killed in a failover.
KILLED = 0.4
#: Bytes before the end of the kept part that the file of a store is cut at.
RAGGED_BYTES = 100


class Faults:
    """Breaks a stage until it is cancelled; ``heal`` mends all that is broken."""

    def __init__(
        self,
        stage: Stage,
        history: History,
        chance: random.Random,
        between: float = BETWEEN_SECONDS,
    ) -> None:
        self._between = between
        self._stage = stage
        self._history = history
        self._chance = chance
        self._under_way: set[asyncio.Task[None]] = set()
        self._busy: set[Process] = set()
        self._over = False
        self._sizes: list[int] = []
        """Of the store's file, at its last marks."""
        lossy, two = stage.mode == "lost tail", stage.mode == "failover"
        self._kinds: dict[str, tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = {
            "server killed": (10, self._kill_server),
            "server restarted": (8, self._restart_server),
            "worker killed": (10, self._kill_worker),
            "worker paused": (8, self._pause_worker),
            "server paused": (4, self._pause_server),
            "store killed": (0 if lossy else 8, self._kill_store),
            "tail lost": (16 if lossy else 0, self._lose_tail),
            "store failed over": (30 if two else 0, self._fail_over),
            "replies cut": (20, self._cut_replies),
            "store slow": (6, self._slow_store),
            "store full": (4, self._fill_store),
            "scripts flushed": (8, self._flush_scripts),
            "feeds expired": (16, self._expire_feeds),
            "clock stepped": (12, self._step_clock),
        }

    async def run(self) -> None:
        marking = asyncio.create_task(self._mark())
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        try:
            while True:
                await asyncio.sleep(self._chance.expovariate(1 / self._between))
                (name,) = self._chance.choices(names, weights)
                task = asyncio.create_task(self._kinds[name][1]())
                self._under_way.add(task)
        finally:
            self._over = True
            await asyncio.shield(marking)  # redis-py may swallow a cancellation

    async def heal(self) -> None:
        """Waits until all is mended. Raises what went wrong with that."""
        await asyncio.gather(*self._under_way)

    def _note(self, kind: str, text: str = "") -> None:
        fault = Fault(kind, time.monotonic(), f"{kind}{': ' if text else ''}{text}")
        self._history.faults.append(fault)

    async def _kill_server(self) -> None:
        server = self._chance.choice(self._stage.servers)
        await self._kill("server killed", server.process, server.kill, server.up)

    async def _restart_server(self) -> None:
        """Stops a server as its operator would, and starts it again."""
        server = self._chance.choice(self._stage.servers)
        if server.process in self._busy:
            return
        with self._alone(server.process):
            self._note("server restarted", server.process.name)
            try:
                await server.stop()
            except ProcessDied as error:
                self._history.complaints.append(str(error))
            await server.up()

    async def _kill_worker(self) -> None:
        worker = self._stage.worker
        await self._kill("worker killed", worker, worker.kill, self._stage.worker_up)

    async def _kill_store(self) -> None:
        store = self._stage.store
        await self._kill("store killed", store, store.kill, self._stage.store_up)

    async def _fail_over(self) -> None:
        """The standby becomes the primary; the old one is demoted late, or killed and comes back.

        Until it is demoted it takes writes of those who are still connected to it: they are lost.
        """
        old, new = self._stage.stores
        if {old.process, new.process} & self._busy:
            return
        with self._alone(old.process, new.process):
            if not await new.has_all_of(old):
                return
            killed = self._chance.random() < KILLED
            self._note("store failed over", f"{old.process.name} {'dies' if killed else 'goes on'}")
            if killed:
                old.process.kill()
                await self._sleep(DOWN_SECONDS)
            await new.promote()
            began, kept = time.monotonic(), await new.marked()
            self._stage.lead_to_standby()
            if killed:
                # Whoever was answered by the old one had asked before: nobody can ask it now.
                self._history.losses.append(Loss(kept, began))
                await self._sleep(DOWN_SECONDS)
                await old.up(new)
                return
            await self._sleep(SPLIT_SECONDS)
            await old.demote(new)
            # It takes no more writes, but a server may read from it until it looks at its role.
            self._history.losses.append(Loss(kept, time.monotonic() + ROLE_SECONDS))

    async def _sleep(self, longest: tuple[float, ...]) -> None:
        """Sleep for up to one of some numbers of seconds."""
        await asyncio.sleep(self._chance.choice(longest) * self._chance.random())

    @contextlib.contextmanager
    def _alone(self, *processes: Process) -> Iterator[None]:
        """Keep other faults from some processes meanwhile."""
        self._busy.update(processes)
        yield
        self._busy.difference_update(processes)

    async def _kill(
        self, kind: str, process: Process, kill: Callable[[], Any], up: Callable[[], Awaitable[Any]]
    ) -> None:
        if process in self._busy:
            return
        self._busy.add(process)
        self._note(kind, process.name)
        kill()
        await asyncio.sleep(self._chance.choice(DOWN_SECONDS) * self._chance.random())
        await up()
        self._busy.discard(process)

    async def _pause_server(self) -> None:
        await self._pause("server paused", self._chance.choice(self._stage.servers).process)

    async def _pause_worker(self) -> None:
        await self._pause("worker paused", self._stage.worker)

    async def _pause(self, kind: str, process: Process) -> None:
        if process in self._busy:
            return
        self._busy.add(process)
        seconds = self._chance.uniform(*PAUSE_SECONDS)
        self._note(kind, f"{process.name} for {seconds:.1f} s")
        process.pause()
        await asyncio.sleep(seconds)
        process.resume()
        self._busy.discard(process)

    async def _lose_tail(self) -> None:
        """The store dies, and with it what was written to its file last, up to any byte of it."""
        store = self._stage.store
        if store in self._busy or not self._sizes:
            return
        self._busy.add(store)
        store.kill()
        (file,) = self._files()
        size = file.stat().st_size
        sizes = [*self._sizes, size]
        left = self._chance.choice(sizes)
        # The store itself may have cut a ragged end off meanwhile, so the first is not the least.
        left -= self._chance.randrange(min(RAGGED_BYTES, left - min(sizes) + 1))
        os.truncate(file, left)
        self._note("tail lost", f"{size - left} bytes")
        self._sizes.clear()
        await asyncio.sleep(self._chance.choice(DOWN_SECONDS) * self._chance.random())
        await self._stage.store_up()
        self._history.losses.append(Loss(await self._stage.primary.marked(), time.monotonic()))
        self._busy.discard(store)

    async def _mark(self) -> None:
        """Marks the store, and keeps in mind how long its file was during the last second."""
        while self._stage.mode != "durable" and not self._over:
            if self._stage.store not in self._busy:
                with contextlib.suppress(RedisError, RuntimeError):  # it was killed meanwhile
                    await self._stage.mark()
                    sizes = [file.stat().st_size for file in self._files()]
                    self._sizes = [*self._sizes, *sizes][-1 - round(1 / MARK_SECONDS) :]
            await asyncio.sleep(MARK_SECONDS)

    def _files(self) -> list[Path]:
        """The primary's append-only files that still grow."""
        return list(self._stage.primary.files.glob("appendonlydir/*.incr.aof"))

    async def _cut_replies(self) -> None:
        proxy, kind = self._stage.proxy, "replies cut"
        if proxy.cutting:
            return
        proxy.cutting = self._chance.choice([0.02, 0.1, 0.5])
        self._note(kind, f"one in {1 / proxy.cutting:.0f}")
        await asyncio.sleep(self._chance.uniform(*CUTTING_SECONDS))
        proxy.cutting = 0.0

    async def _slow_store(self) -> None:
        proxy = self._stage.proxy
        if proxy.delay:
            return
        proxy.delay = self._chance.choice([0.002, 0.01, 0.05])
        self._note("store slow", f"up to {proxy.delay * 1000:.0f} ms a reply")
        await asyncio.sleep(self._chance.uniform(*CUTTING_SECONDS))
        proxy.delay = 0.0

    async def _fill_store(self) -> None:
        """The store has reached its bound of memory, until its operator raises the bound."""

        async def full() -> None:
            await self._stage.redis.config_set("maxmemory", 1)
            await asyncio.sleep(self._chance.uniform(*CUTTING_SECONDS))
            await self._stage.redis.config_set("maxmemory", 0)

        await self._directly("store full", full)

    async def _flush_scripts(self) -> None:
        await self._directly("scripts flushed", self._stage.redis.script_flush)

    async def _expire_feeds(self) -> None:
        await self._directly("feeds expired", lambda: self._stage.expire_feeds(self._chance))

    async def _directly(self, kind: str, what: Callable[[], Awaitable[Any]]) -> None:
        """Does something to the store, unless that is down; it may not be killed meanwhile."""
        if self._stage.store in self._busy:
            return
        with self._alone(self._stage.store):
            self._note(kind)
            await what()

    async def _step_clock(self) -> None:
        """Sets a clock back by seconds or up to an hour, or right again; a server's also ahead."""
        clocked: list[Server | Store] = [*self._stage.servers, *self._stage.stores]
        one = self._chance.choice(clocked)
        back = self._chance.choice([0, 2, 30, 3600])
        seconds = -self._chance.randint(back // 2, back)
        if isinstance(one, Server) and self._chance.random() < 0.5:
            seconds = -seconds
        if one.clock.step(seconds):
            self._note("clock stepped", f"{one.process.name} to {seconds} s")
