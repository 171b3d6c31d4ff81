"""A process that makes calls. It is started by `processes`, which it obeys by a pipe."""

import asyncio
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from selectors import SelectSelector

import grpc
import grpc.aio
from activityfeed import FeedClient

from feedsvc.cli.connection import explain
from feedsvc.cli.load_test.batches import Batch, Recorder, clock
from feedsvc.cli.load_test.plan import Orders
from feedsvc.cli.load_test.streams import Streams
from feedsvc.cli.load_test.traffic import Traffic

#: Seconds between two batches.
BATCH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Ready:
    """The streams are open. The time to begin may be sent."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Every call has been answered. The streams stay until the pipe is closed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The process could not begin; the reason, in one line."""

    why: str


Message = Ready | Finished | Failed | Batch


def generate(orders: Orders, pipe: "Connection[Message, float]") -> None:
    """Says Ready, receives the time to begin, sends batches, and ends when the pipe is closed."""
    # Its timeouts are as fine as the clock. Those of epoll are rounded up to the next millisecond,
    # and every call of an open loop would be late by the rest of one.
    selector = SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(_generate(orders, pipe))


async def _generate(orders: Orders, pipe: "Connection[Message, float]") -> None:
    await _Generator(orders, pipe).run()


class _Generator:
    def __init__(self, orders: Orders, pipe: "Connection[Message, float]") -> None:
        """Within the loop that it will run in."""
        self._orders = orders
        self._pipe = pipe
        self._sending = asyncio.Lock()
        self._recorder = Recorder()
        self._begin: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        work = asyncio.create_task(self._work())
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._hear, work)
        await asyncio.wait([work])
        if not work.cancelled() and (error := work.exception()):
            raise error

    def _hear(self, work: "asyncio.Task[None]") -> None:
        try:
            self._begin.set_result(self._pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            work.cancel()

    async def _work(self) -> None:
        server = self._orders.plan.server
        # Without the retries and defaults of `FeedClient.connect`: they take time, and hide errors.
        async with (
            FeedClient(grpc.aio.insecure_channel(server)) as client,
            asyncio.TaskGroup() as tasks,
        ):
            try:
                await Streams(client, self._orders, self._recorder).open(tasks)
            except (TimeoutError, grpc.aio.AioRpcError) as error:
                await self._send(Failed(_why(error, server)))
                await asyncio.Future()  # until the pipe is closed
            await self._send(Ready())
            begin = await self._begin
            tasks.create_task(self._report())
            counting = tasks.create_task(self._count_cpu(begin))
            await Traffic(client, self._orders, self._recorder).run(begin)
            await counting
            await self._send(self._recorder.take())
            await self._send(Finished())
            await asyncio.Future()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(BATCH_SECONDS)
            await self._send(self._recorder.take())

    async def _send(self, message: Message) -> None:
        # In a thread: while nobody reads, the calls go on all the same.
        async with self._sending:
            await asyncio.to_thread(self._pipe.send, message)

    async def _count_cpu(self, begin: float) -> None:
        await asyncio.sleep(begin + self._orders.plan.warm_up - clock())
        since, cpu_before = clock(), time.process_time()
        await asyncio.sleep(self._orders.plan.duration)
        self._recorder.batch.cpu = (time.process_time() - cpu_before) / (clock() - since)


def _why(error: TimeoutError | grpc.aio.AioRpcError, server: str) -> str:
    if isinstance(error, TimeoutError):
        return f"the server at {server} did not open the streams in time"
    return explain(error, server)
