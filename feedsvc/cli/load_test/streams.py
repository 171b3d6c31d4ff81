"""The streams that are open during a run."""

import asyncio
from typing import Any

import grpc
import grpc.aio
from activityfeed import FeedClient

from feedsvc.cli.connection import label
from feedsvc.cli.load_test.clock import clock, microseconds
from feedsvc.cli.load_test.measurements import Recorder
from feedsvc.cli.load_test.plan import EVENTS, Orders
from feedsvc.cli.load_test.population import Population


class Streams:
    """The SubscribeFeed streams of one process. A stream that breaks is resumed."""

    def __init__(self, client: FeedClient, orders: Orders, recorder: Recorder) -> None:
        self._client = client
        self._orders = orders
        self._recorder = recorder
        self._population = Population(orders.plan)

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Open the streams, and return when each has had its first message.

        ``tasks`` hold the streams; cancelling the tasks closes the streams. Raise AioRpcError if a
        stream cannot be opened, and TimeoutError if that takes longer than the plan's ``timeout``.
        """
        starts = []
        for stream, user in self._orders.streams.items():
            starts.append(asyncio.get_running_loop().create_future())
            tasks.create_task(self._hold(stream, self._population.name(user), starts[-1]))
        async with asyncio.timeout(self._orders.plan.timeout):
            await asyncio.gather(*starts)

    async def _hold(self, stream: int, user: str, start: "asyncio.Future[None]") -> None:
        def on_break(error: Any) -> None:
            if not start.done() and error is not None:
                raise error
            self._recorder.current.errors[EVENTS, label(error) if error else "ended"] += 1

        try:
            async for message in self._client.subscribe(user, on_break=on_break):
                now = microseconds(clock())
                for event in message.events.events:
                    if event.HasField("added"):
                        activity_id = int(event.added.activity.activity.id)
                        self._recorder.current.arrived.extend((activity_id, stream, now))
                if not start.done():
                    start.set_result(None)
        except grpc.aio.AioRpcError as error:
            if not start.done():
                start.set_exception(error)
            else:
                self._recorder.current.errors[EVENTS, label(error)] += 1
