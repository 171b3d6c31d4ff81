"""The calls of one process: when each call is due, and what it asks for."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate, count, takewhile

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from feedsvc.cli.connection import label
from feedsvc.cli.load_test.clock import clock, microseconds
from feedsvc.cli.load_test.measurements import Recorder
from feedsvc.cli.load_test.pacing import OpenLoop, evenly_spaced, in_lanes, randomly_spaced
from feedsvc.cli.load_test.plan import Kind, Orders, Plan
from feedsvc.cli.load_test.population import Population


def schedule(plan: Plan, rate: float, process: int, begin: float) -> Iterator[float]:
    """Yield when each call of a process in an open loop is due, until the run's end.

    ``rate`` is that of all processes. Together, the processes' evenly spaced calls are evenly
    spaced, and their random calls are random.
    """
    seconds = plan.warm_up + plan.duration
    if plan.poisson:
        rng = random.Random(f"{plan.seed}/arrivals/{process}")
        offsets = randomly_spaced(rate / plan.processes, rng)
    else:
        offsets = evenly_spaced(rate, process, plan.processes)
    yield from (begin + offset for offset in takewhile(lambda offset: offset < seconds, offsets))


class Traffic:
    """The calls of one process."""

    def __init__(self, client: FeedClient, orders: Orders, recorder: Recorder) -> None:
        self._client = client
        self._orders = orders
        self._plan = plan = orders.plan
        self._recorder = recorder
        self._population = Population(plan)
        self._names = self._population.names
        self._rng = random.Random(f"{plan.seed}/calls/{orders.process}")
        self._kinds = [kind for kind, weight in plan.mix.items() if weight]
        self._weights = list(accumulate(plan.mix[kind] for kind in self._kinds))
        self._calls: dict[Kind, Callable[[int, int], Awaitable[None]]] = {
            Kind.READS: self._read,
            Kind.DEEPER: self._read_deeper,
            Kind.PUBLISHES: self._publish,
        }
        self._numbers = count()
        self._content = "x" * plan.content_bytes
        self._counted_from = self._end = 0.0

    async def run(self, begin: float) -> None:
        """Make calls from ``begin`` on, and return when the last call is answered."""
        plan, process = self._plan, self._orders.process
        self._counted_from = begin + plan.warm_up
        self._end = self._counted_from + plan.duration
        concurrency = plan.concurrency_of(process)
        if plan.rate is None:
            await asyncio.sleep(begin - clock())
            await in_lanes(self._until_end(begin), self._call, lanes=concurrency)
        else:
            due_times = schedule(plan, plan.rate, process, begin)
            await OpenLoop(due_times, self._call_when_due, max_in_flight=concurrency).run()

    def _until_end(self, begin: float) -> Iterator[float]:
        """Yield when each call of a closed loop is due: as soon as a lane is free."""
        while (now := clock()) < self._end:
            yield max(now, begin)

    async def _call_when_due(self, due: float, is_held: bool) -> None:  # noqa: FBT001 - a callback
        counts = due >= self._counted_from
        if is_held:
            self._recorder.current.held += counts
            if clock() >= self._end:
                self._recorder.current.not_started += counts
                return
        if counts:
            self._recorder.current.late.append(microseconds(max(0.0, clock() - due)))
        await self._call(due)

    async def _call(self, due: float) -> None:
        counts = due >= self._counted_from
        kind = self._rng.choices(self._kinds, cum_weights=self._weights)[0]
        user = self._population.pick(self._rng)
        try:
            await self._calls[kind](user, microseconds(due))
        except grpc.aio.AioRpcError as error:
            if counts:
                self._recorder.current.errors[kind, label(error)] += 1
        else:
            now = clock()
            if self._counted_from <= now < self._end:
                self._recorder.current.answered[kind] += 1
            if counts:
                self._recorder.current.latencies[kind].append(microseconds(now - due))

    async def _read(self, user: int, _: int, page_token: str = "") -> None:
        await self._client.feeds.GetFeed(
            GetFeedRequest(
                user=self._names[user], page_size=self._plan.page_size, page_token=page_token
            ),
            timeout=self._plan.timeout,
        )

    async def _read_deeper(self, user: int, due: int) -> None:
        await self._read(user, due, self._orders.page_tokens[user])

    async def _publish(self, author: int, due: int) -> None:
        request_id = f"{self._orders.process}/{next(self._numbers)}"
        activity = Activity(
            actor=self._names[author],
            verb="post",
            object=Ref(id=f"{self._plan.prefix}:{request_id}"),
            content=self._content,
        )
        answer = await self._client.activities.PublishActivity(
            PublishActivityRequest(activity=activity, request_id=request_id),
            timeout=self._plan.timeout,
        )
        if self._plan.subscriptions:
            activity_id = int(answer.activity.id)
            self._recorder.current.published.extend((activity_id, author, due))
