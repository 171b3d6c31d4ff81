"""The streams that are held open during a run."""

import asyncio
from typing import Any

import grpc
import grpc.aio
from activityfeed import FeedClient

from feedsvc.cli.connection import label
from feedsvc.cli.load_test.batches import Recorder, clock, microseconds
from feedsvc.cli.load_test.plan import EVENTS, Orders
from feedsvc.cli.load_test.population import Population


class Streams:
    """The SubscribeFeed streams of one process. A stream that breaks is resumed where it was."""

    def __init__(self, client: FeedClient, orders: Orders, recorder: Recorder) -> None:
        self._client = client
        self._orders = orders
        self._recorder = recorder
        self._population = Population(orders.plan)

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        """Opens them, and returns when each has said that it begins.

        They are held by ``tasks``; cancelling these closes them. Raises AioRpcError if one cannot
        be opened within a call's time.
        """
        began = []
        for stream, user in self._orders.streams.items():
            began.append(asyncio.get_running_loop().create_future())
            tasks.create_task(self._hold(stream, self._population.name(user), began[-1]))
        async with asyncio.timeout(self._orders.plan.timeout):
            await asyncio.gather(*began)

    async def _hold(self, stream: int, user: str, began: "asyncio.Future[None]") -> None:
        def broke(error: Any) -> None:
            if not began.done() and error is not None:
                raise error
            self._recorder.batch.errors[EVENTS, label(error) if error else "ended"] += 1

        try:
            async for message in self._client.subscribe(user, on_break=broke):
                now = microseconds(clock())
                for event in message.events.events:
                    if event.HasField("added"):
                        activity_id = int(event.added.activity.activity.id)
                        self._recorder.batch.arrived.extend((activity_id, stream, now))
                if not began.done():
                    began.set_result(None)
        except grpc.aio.AioRpcError as error:
            if not began.done():
                began.set_exception(error)
            else:
                self._recorder.batch.errors[EVENTS, label(error)] += 1
