"""The processes that make the calls, from their start to their end."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from feedsvc.cli.load_test.batches import Batch
from feedsvc.cli.load_test.generator import Failed, Finished, Message, Ready, generate
from feedsvc.cli.load_test.plan import Orders

#: Seconds that a process has to end by itself.
LAST_SECONDS = 5.0


class GeneratorFailed(Exception):
    """A process could not begin, or died; the message says why."""


class Processes:
    """One process for each orders. Within the context all are ready; leaving it ends them.

    They are spawned, not forked, because gRPC does not survive a fork.
    """

    def __init__(self, orders: Sequence[Orders], hear: Callable[[Batch], None]) -> None:
        """``hear`` is given each batch as it comes."""
        self._children = [_Child(one, hear) for one in orders]

    async def __aenter__(self) -> Self:
        """Raises GeneratorFailed if a process could not begin."""
        try:
            for child in self._children:
                child.start()
            await asyncio.gather(*(child.ready for child in self._children))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    def begin(self, at: float) -> None:
        """Has all calls begin at a time of the run's clock."""
        for child in self._children:
            child.pipe.send(at)

    async def finished(self) -> None:
        """Returns when all calls of all processes are answered. Raises GeneratorFailed."""
        await asyncio.gather(*(child.finished for child in self._children))

    async def _end(self) -> None:
        for child in self._children:
            child.hang_up()
        for child in self._children:
            await child.join()


class _Child:
    def __init__(self, orders: Orders, hear: Callable[[Batch], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self._hear = hear
        context = get_context("spawn")
        self.pipe: Connection[float, Message]
        self.pipe, self._other_end = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=generate, args=(orders, self._other_end), daemon=True
        )

    def start(self) -> None:
        # Ctrl-C reaches the whole group of processes, but it is for the one that cleans up. What is
        # ignored when a process is started, it ignores.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        self._other_end.close()
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self._fail("a process of the load generator died")
            self.hang_up()
            return
        match message:
            case Ready():
                _resolve(self.ready)
            case Finished():
                _resolve(self.finished)
            case Failed(why):
                self._fail(why)
            case _:
                self._hear(message)

    def _fail(self, why: str) -> None:
        for future in (self.ready, self.finished):
            if not future.done():
                future.set_exception(GeneratorFailed(why))
                future.exception()  # perhaps nobody waits for it

    def hang_up(self) -> None:
        if not self.pipe.closed:
            asyncio.get_running_loop().remove_reader(self.pipe.fileno())
            self.pipe.close()

    async def join(self) -> None:
        if self._process.pid is None:
            self._other_end.close()
            return
        await asyncio.to_thread(self._process.join, LAST_SECONDS)
        self._process.kill()
        self._process.join()


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
