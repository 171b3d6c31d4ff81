"""A process that makes calls. `processes` starts it and controls it through a pipe."""

import asyncio
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NoReturn, cast

import grpc
import grpc.aio
from activityfeed import FeedClient

from feedsvc.cli.connection import explain
from feedsvc.cli.load_test.clock import clock, run_with_fine_timers
from feedsvc.cli.load_test.measurements import Measurements, Recorder
from feedsvc.cli.load_test.plan import Orders
from feedsvc.cli.load_test.streams import Streams
from feedsvc.cli.load_test.traffic import Traffic

#: Seconds between two reports of measurements.
REPORT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Ready:
    """The streams are open. The parent may send the time to begin."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Every call has been answered. The streams stay open until the parent closes the pipe."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The process could not begin."""

    why: str
    """The reason, in one line."""


Message = Ready | Finished | Failed | Measurements


#: What the parent sends: orders, and later the time to begin.
Command = Orders | float


def generate(pipe: "Connection[Message, Command]") -> None:
    """Receive orders, send Ready, receive the time to begin, and send measurements.

    The process ends at once when the parent closes the pipe or dies, whatever is under way.
    """
    # The orders come through the pipe and are no argument of the process: the parent would have to
    # wait until this process has imported its modules before the parent could hand them over.
    try:
        orders = cast(Orders, pipe.recv())
    except (EOFError, OSError):
        return
    run_with_fine_timers(_generate(orders, pipe))


async def _generate(orders: Orders, pipe: "Connection[Message, Command]") -> None:
    await _Generator(orders, pipe).run()


class _Generator:
    def __init__(self, orders: Orders, pipe: "Connection[Message, Command]") -> None:
        """Prepare the process, within the event loop that runs it."""
        self._orders = orders
        self._pipe = pipe
        self._sending = asyncio.Lock()
        self._recorder = Recorder()
        self._begin: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._hear)
        await self._work()

    def _hear(self) -> None:
        try:
            self._begin.set_result(cast(float, self._pipe.recv()))
        except (EOFError, OSError):
            _end()

    async def _work(self) -> None:
        server = self._orders.plan.server
        # Without the retries and defaults of `FeedClient.connect`: they take time and hide errors.
        async with (
            FeedClient(grpc.aio.insecure_channel(server)) as client,
            asyncio.TaskGroup() as tasks,
        ):
            try:
                await Streams(client, self._orders, self._recorder).open(tasks)
            except (TimeoutError, grpc.aio.AioRpcError) as error:
                await self._send(Failed(_reason(error, server)))
                await asyncio.Future()  # until the parent closes the pipe
            await self._send(Ready())
            begin = await self._begin
            tasks.create_task(self._report())
            cpu_count = tasks.create_task(self._count_cpu(begin))
            await Traffic(client, self._orders, self._recorder).run(begin)
            await cpu_count
            await self._send(self._recorder.take())
            await self._send(Finished())
            await asyncio.Future()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._send(self._recorder.take())

    async def _send(self, message: Message) -> None:
        # In a thread: the calls must go on while the parent is too busy to read.
        async with self._sending:
            try:
                await asyncio.to_thread(self._pipe.send, message)
            except OSError:
                _end()

    async def _count_cpu(self, begin: float) -> None:
        await asyncio.sleep(begin + self._orders.plan.warm_up - clock())
        since, cpu_before = clock(), time.process_time()
        await asyncio.sleep(self._orders.plan.duration)
        self._recorder.current.cpu = (time.process_time() - cpu_before) / (clock() - since)


def _end() -> NoReturn:
    """End the process, because the parent needs it no more or has died.

    Calls and streams end with the process. To cancel them first would take time, and print errors
    of calls that nobody waits for.
    """
    os._exit(0)


def _reason(error: TimeoutError | grpc.aio.AioRpcError, server: str) -> str:
    if isinstance(error, TimeoutError):
        return f"the server at {server} did not open the streams in time"
    return explain(error, server)
