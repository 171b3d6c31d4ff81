"""The calls: when each is due, and making them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate, count, repeat, takewhile

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from feedsvc.cli.connection import label
from feedsvc.cli.load_test.batches import Recorder, clock, microseconds
from feedsvc.cli.load_test.plan import Kind, Orders, Plan
from feedsvc.cli.load_test.population import Population


def schedule(plan: Plan, process: int, begin: float) -> Iterator[float]:
    """When each call of a process is due, until the run's end.

    Of a closed loop: now, but not before ``begin``. Of an open loop: by the plan, whatever the time
    is.
    """
    seconds = plan.warm_up + plan.duration
    if plan.rate is None:
        while (now := clock()) < begin + seconds:
            yield max(now, begin)
        return
    # Together, the processes' evenly spaced calls are evenly spaced, and their random ones random.
    rng = random.Random(f"{plan.seed}/arrivals/{process}")
    share = plan.rate / plan.processes
    after: Iterator[float] = (
        accumulate(rng.expovariate(share) for _ in repeat(None))
        if plan.poisson
        # Not by adding up: how many there are must not depend on rounding.
        else (number / plan.rate for number in count(process, plan.processes))
    )
    yield from (begin + due for due in takewhile(lambda due: due < seconds, after))


class Traffic:
    """The calls of one process.

    As many workers as calls may be in flight take the next due time, wait for it, call and record
    how long it took since it was due. So an open loop needs no more memory when the server stalls,
    and a call that finds no worker free is late by the time it had to wait for one.
    """

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
        self._call: dict[Kind, Callable[[int, int], Awaitable[None]]] = {
            Kind.READS: self._read,
            Kind.DEEPER: self._read_deeper,
            Kind.PUBLISHES: self._publish,
        }
        self._numbers = count()
        self._content = "x" * plan.content_bytes
        self._counted_from = self._end = 0.0

    async def run(self, begin: float) -> None:
        """Calls from ``begin`` on, until the last call is answered."""
        due_times = schedule(self._plan, self._orders.process, begin)
        self._counted_from = begin + self._plan.warm_up
        self._end = self._counted_from + self._plan.duration
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._plan.concurrency_of(self._orders.process)):
                tasks.create_task(self._work(due_times))

    async def _work(self, due_times: Iterator[float]) -> None:
        is_open = self._plan.rate is not None
        for due in due_times:
            counts = due >= self._counted_from
            if (early := due - clock()) > 0:
                await asyncio.sleep(early)
            elif is_open:
                self._recorder.batch.held += counts
                if clock() >= self._end:
                    self._recorder.batch.not_started += counts
                    continue
            if is_open and counts:
                self._recorder.batch.late.append(microseconds(max(0.0, clock() - due)))
            await self._make(due, counts=counts)

    async def _make(self, due: float, *, counts: bool) -> None:
        kind = self._rng.choices(self._kinds, cum_weights=self._weights)[0]
        user = self._population.pick(self._rng)
        try:
            await self._call[kind](user, microseconds(due))
        except grpc.aio.AioRpcError as error:
            if counts:
                self._recorder.batch.errors[kind, label(error)] += 1
        else:
            now = clock()
            if self._counted_from <= now < self._end:
                self._recorder.batch.answered[kind] += 1
            if counts:
                self._recorder.batch.latencies[kind].append(microseconds(now - due))

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
            self._recorder.batch.published.extend((activity_id, author, due))
