"""The processes that make the calls, from their start to their end."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from feedsvc.cli.load_test.child import Child
from feedsvc.cli.load_test.generator import Command, Failed, Finished, Message, Ready, generate
from feedsvc.cli.load_test.measurements import Measurements
from feedsvc.cli.load_test.plan import Orders


class GeneratorFailed(Exception):
    """A process could not begin, or died. The message says why."""


class Processes:
    """A process for each of the orders. Within the context all are ready; leaving it ends them."""

    def __init__(self, orders: Sequence[Orders], hear: Callable[[Measurements], None]) -> None:
        """``hear`` gets the measurements of each process as they come."""
        self._generators = [_Generator(process_orders, hear) for process_orders in orders]

    async def __aenter__(self) -> Self:
        """Start the processes. Raise GeneratorFailed if a process cannot begin."""
        try:
            for generator in self._generators:
                generator.child.start()
            await asyncio.gather(*(generator.make_ready() for generator in self._generators))
        except BaseException as error:
            await self._end(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end(error)

    def begin(self, begin: float) -> None:
        """Have all calls begin at a time of the run's clock."""
        for generator in self._generators:
            generator.child.send(begin)

    async def finished(self) -> None:
        """Return when all calls of all processes are answered. Raise GeneratorFailed."""
        await asyncio.gather(*(generator.finished for generator in self._generators))

    async def _end(self, error: BaseException | None) -> None:
        for generator in self._generators:
            if isinstance(error, asyncio.CancelledError):
                generator.child.kill()  # a process that still starts would notice late
            else:
                generator.child.hang_up()
        for generator in self._generators:
            await generator.child.join()


class _Generator:
    """A process that makes calls, and how far it is."""

    def __init__(self, orders: Orders, hear: Callable[[Measurements], None]) -> None:
        loop = asyncio.get_running_loop()
        self._orders = orders
        self._ready: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self._hear_measurements = hear
        self.child: Child[Command, Message] = Child(generate, hear=self._hear, died=self._died)

    async def make_ready(self) -> None:
        """Give the process its orders, and wait until it is ready. Raise GeneratorFailed."""
        await self.child.send_large(self._orders)
        await self._ready

    def _hear(self, message: Message) -> None:
        match message:
            case Ready():
                _resolve(self._ready)
            case Finished():
                _resolve(self.finished)
            case Failed(why):
                self._fail(why)
            case _:
                self._hear_measurements(message)

    def _died(self) -> None:
        self._fail("a process of the load generator died: its error stands above")

    def _fail(self, why: str) -> None:
        for future in (self._ready, self.finished):
            if not future.done():
                future.set_exception(GeneratorFailed(why))
                future.exception()  # else asyncio may log that no task has read the error


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
