"""Calls at a steady rate, in a process of its own: ``python -m benchmarks.steady TARGET RATE``.

So many publishes a second, each to ten followers in ten shards, and as many GetFeed calls of the
newest 20 activities, evenly spaced and halfway between each other. An open loop: calls begin on
schedule whatever the answers do, and take from when they were due.

Prints a line when it has warmed up, begins at a line on its standard input, and ends when that
does: it waits for what was begun, and prints the milliseconds of all calls by kind, as JSON.
"""

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from selectors import SelectSelector
from typing import Any

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks import population
from benchmarks.progress import Progress
from feedsvc.core import ids

AUTHORS, FOLLOWERS = 100, 10
#: Readers follow authors of their own, who have so many activities each.
READERS, FOLLOWEES, ACTIVITIES = 200, 50, 20
PAGE = 20
#: Calls of each kind before those that count.
WARM_UP = 100
KINDS = ("PublishActivity", "GetFeed")
_METHODS = (
    "/activityfeed.v1.ActivityService/PublishActivity",
    "/activityfeed.v1.FeedService/GetFeed",
)

Call = Callable[[], Any]


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}:{100_000 + number}" for number in range(count)]


async def populate(client: FeedClient, shards: int, report: Progress) -> None:
    """Makes those who publish and read, and warms the feeds."""
    chosen = random.Random(1)
    authors, readers, read = (
        _names(kind, count)
        for kind, count in (("steady", AUTHORS), ("reader", READERS), ("read", FOLLOWEES * 2))
    )
    # One of each shard; of these each author gets ten.
    by_shard = {ids.shard_for(one, shards): one for one in _names("follower", 1_000)}
    followers = [by_shard[shard] for shard in range(shards)]
    edges = [(one, author) for author in authors for one in chosen.sample(followers, FOLLOWERS)]
    edges += [(one, author) for one in readers for author in chosen.sample(read, FOLLOWEES)]
    await population.follow(client, edges, report)
    activities = [population.activity(one, number) for number in range(ACTIVITIES) for one in read]
    await population.publish_all(client, activities, report)
    await population.warm(client, [*followers, *readers], report)


def _calls(channel: grpc.aio.Channel) -> list[Call]:
    """The next call of each kind, which neither encodes its request nor decodes the answer."""
    publishes = [
        PublishActivityRequest(activity=population.activity(one)).SerializeToString()
        for one in _names("steady", AUTHORS)
    ]
    reads = [
        GetFeedRequest(user=one, page_size=PAGE).SerializeToString()
        for one in _names("reader", READERS)
    ]

    def call(method: str, requests: Sequence[bytes]) -> Call:
        send: Any = channel.unary_unary(method)
        waiting = cycle(requests)
        return lambda: send(next(waiting))

    return [
        call(method, requests)
        for method, requests in zip(_METHODS, (publishes, reads), strict=True)
    ]


async def _steadily(call: Call, begin: float, rate: float, ended: asyncio.Event) -> list[float]:
    """Milliseconds of each call, in the order of the answers."""
    times: list[float] = []

    async def one(due: float) -> None:
        await call()
        times.append(1000 * (time.perf_counter() - due))

    due = begin
    async with asyncio.TaskGroup() as tasks:
        while not ended.is_set():
            await asyncio.sleep(due - time.perf_counter())
            tasks.create_task(one(due))
            due += 1 / rate
    return times


@asynccontextmanager
async def beside(
    target: str, rate: float, told: list[dict[str, list[float]]]
) -> AsyncIterator[None]:
    """Have the calls go on meanwhile, in a process of their own, and add their times to a list."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.steady", target, str(rate)),
        stdin=PIPE,
        stdout=PIPE,
        # Ctrl-C on the terminal is for this process, which then ends the others.
        start_new_session=True,
    )
    asked, answers = running.stdin, running.stdout
    if asked is None or answers is None:
        raise RuntimeError("pipes were asked for")
    try:
        if not await answers.readline():
            raise RuntimeError("benchmarks.steady did not start")
        asked.write(b"\n")
        yield
        asked.close()
        answer = await answers.read()
    finally:
        asked.close()
        await running.wait()
    if not answer:
        raise RuntimeError("benchmarks.steady failed")
    told.append(json.loads(answer))


async def _run(target: str, rate: float) -> None:
    ended = asyncio.Event()
    async with grpc.aio.insecure_channel(target) as channel:
        calls = _calls(channel)
        for call in calls * WARM_UP:
            await call()
        print(flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        waiting = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        waiting.add_done_callback(lambda _: ended.set())
        begin = time.perf_counter() + 0.01
        times = await asyncio.gather(
            *(
                _steadily(call, begin + number / rate / len(calls), rate, ended)
                for number, call in enumerate(calls)
            )
        )
    print(json.dumps(dict(zip(KINDS, times, strict=True))))


if __name__ == "__main__":
    # Its timeouts are as fine as the clock; those of uvloop and of epoll are whole milliseconds.
    selector = SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(_run(sys.argv[1], float(sys.argv[2])))
