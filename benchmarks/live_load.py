"""A load of small publishes, in a process of its own: ``python -m benchmarks.live_load TARGET``.

By 100 authors in turn, each with ten followers in ten shards, whose feeds are warm and to whom
nobody subscribes. It finds out how many a second the server takes with 32 on their way, and makes
so many a second, evenly spaced: an open loop, in which calls begin on schedule whatever the answers
do, and take from when they were due. Should the server fall so far behind that 500 are on their
way, the others wait, which counts; gRPC would cancel some of a thousand.
"""

import asyncio
import random
import sys
import time
from itertools import cycle
from selectors import SelectSelector
from typing import Any

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest

from benchmarks import population
from benchmarks.live_helper import obey
from benchmarks.progress import Progress
from feedsvc.core import ids

AUTHORS, FOLLOWERS = 100, 10
AT_A_TIME = 32
#: Of an open loop, calls on their way at the most.
MOST = 500
METHOD = "/activityfeed.v1.ActivityService/PublishActivity"


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}:{100_000 + number}" for number in range(count)]


async def populate(client: FeedClient, shards: int, report: Progress) -> None:
    """Makes the authors and their followers, and warms the feeds."""
    chosen = random.Random(1)
    # One of each shard; of these each author gets ten.
    by_shard = {ids.shard_for(one, shards): one for one in _names("follower", 1_000)}
    followers = [by_shard[shard] for shard in range(shards)]
    edges = [
        (one, author)
        for author in _names("load", AUTHORS)
        for one in chosen.sample(followers, FOLLOWERS)
    ]
    await population.follow(client, edges, report)
    await population.warm(client, followers, report)


class Load:
    """Publishes whose requests were encoded before, and whose answers nobody decodes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._send: Any = channel.unary_unary(METHOD)
        self._requests = cycle(
            [
                PublishActivityRequest(activity=population.activity(one)).SerializeToString()
                for one in _names("load", AUTHORS)
            ]
        )
        self._ended = asyncio.Event()
        self._steady: asyncio.Task[list[float]] | None = None

    async def do(self, what: str, *arguments: Any) -> Any:
        match what:
            case "peak":
                return await self._peak(*arguments)
            case "begin":
                self._ended.clear()
                self._steady = asyncio.create_task(self._steadily(*arguments))
                return None
            case "end" if self._steady is not None:
                self._ended.set()
                return await self._steady
        raise ValueError(what)

    async def _peak(self, seconds: float) -> float:
        """Calls a second, each begun when another was answered."""
        begun, calls = time.perf_counter(), 0

        async def lane() -> None:
            nonlocal calls
            while time.perf_counter() - begun < seconds:
                await self._send(next(self._requests))
                calls += 1

        await asyncio.gather(*(lane() for _ in range(AT_A_TIME)))
        return calls / (time.perf_counter() - begun)

    async def _steadily(self, rate: float) -> list[float]:
        """Milliseconds of each call, in the order of the answers."""
        times: list[float] = []
        slots = asyncio.Semaphore(MOST)

        async def one(due: float) -> None:
            async with slots:
                await self._send(next(self._requests))
            times.append(1000 * (time.perf_counter() - due))

        due = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            while not self._ended.is_set():
                await asyncio.sleep(due - time.perf_counter())
                tasks.create_task(one(due))
                due += 1 / rate
        return times


async def _run(target: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        await obey(Load(channel).do)


if __name__ == "__main__":
    # Its timeouts are as fine as the clock; those of uvloop and of epoll are whole milliseconds.
    selector = SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(_run(sys.argv[1]))
