"""A steady load: small publishes and reads, by a helper with a connection of its own.

- PublishActivity: by 100 authors in turn, each with ten followers in ten shards, whose feeds are
  warm and have no subscribers.
- GetFeed: the newest 20 activities of 200 readers in turn, who follow 50 of 100 other authors.

The helper encodes all requests in advance, and does not decode answers. In the open loop the calls
of a kind are evenly spaced, and the calls of two kinds alternate. A call begins on schedule even if
earlier calls were not answered, and its time counts from when it was due. In the closed loop 32
publishes are in flight, so that a scenario finds out how many publishes a second the server takes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import Any

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks.harness.figures import Figure, quantile
from benchmarks.harness.helper import Pipe, obey, open_helper
from benchmarks.harness.progress import Progress
from benchmarks.load import population
from feedsvc.cli.load_test.clock import clock, run_with_fine_timers
from feedsvc.cli.load_test.pacing import OpenLoop, evenly_spaced, in_lanes

AUTHORS, FOLLOWERS = 100, 10
READERS, FOLLOWEES = 200, 50
#: Activities of each author whom the readers follow.
ACTIVITIES = 20
PAGE = 20
#: Calls of each kind before those that count.
WARM_UP = 100
#: Publishes in flight in the closed loop.
PEAK_LANES = 32
#: Seconds from the command to the first call that is due.
HEAD_START = 0.01

PUBLISH, READ = "PublishActivity", "GetFeed"
KINDS = (PUBLISH, READ)
METHODS = {
    PUBLISH: "/activityfeed.v1.ActivityService/PublishActivity",
    READ: "/activityfeed.v1.FeedService/GetFeed",
}

Times = dict[str, list[float]]
"""Milliseconds of calls, by kind."""


async def prepare_publishes(
    client: FeedClient, shards: int, progress: Progress, rng: random.Random | None = None
) -> None:
    """Make the authors and their followers, and warm the followers' feeds."""
    followers = _followers(shards)
    edges = population.scattered_edges(_authors(), followers, FOLLOWERS, rng or random.Random(1))
    await population.follow(client, edges, progress)
    await population.warm(client, followers, progress)


async def prepare_publishes_and_reads(client: FeedClient, shards: int, progress: Progress) -> None:
    """Make authors, followers and readers, and warm the feeds."""
    rng = random.Random(1)
    await prepare_publishes(client, shards, progress, rng)
    readers, followees = _readers(), population.names("read", FOLLOWEES * 2)
    edges = [(reader, author) for reader in readers for author in rng.sample(followees, FOLLOWEES)]
    await population.follow(client, edges, progress)
    activities = [
        population.activity(author, number) for number in range(ACTIVITIES) for author in followees
    ]
    await population.publish_all(client, activities, progress)
    await population.warm(client, readers, progress)


def _authors() -> list[str]:
    return population.names("steady", AUTHORS)


def _followers(shards: int) -> list[str]:
    candidates = population.names("follower", population.CANDIDATES)
    return population.follower_of_each_shard(shards, candidates)


def _readers() -> list[str]:
    return population.names("reader", READERS)


def p99_figures(
    suffix: str, against: str, beside: Sequence[Times], alone: Sequence[Times], target: str
) -> list[Figure]:
    """Return the p99 of each kind beside a load, against the same alone, by turn."""
    return [
        Figure(
            f"{kind}{suffix}",
            "ms",
            against,
            tuple(quantile(times[kind], 0.99) for times in beside),
            tuple(quantile(times[kind], 0.99) for times in alone),
            target,
        )
        for kind in KINDS
    ]


@asynccontextmanager
async def steady_load(target: str, rate: float, turns: list[Times]) -> AsyncIterator[None]:
    """Have a helper make ``rate`` calls of each kind a second, and add their times to ``turns``."""
    async with open_helper(run, target) as load:
        await load.ask("warm up")
        await load.ask("begin", KINDS, rate, None)
        yield
        turns.append(await load.ask("end"))


class SteadyLoad:
    """The helper's calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        reads = [
            GetFeedRequest(user=reader, page_size=PAGE).SerializeToString() for reader in _readers()
        ]
        self._requests = {
            PUBLISH: cycle(population.encoded_publishes(_authors())),
            READ: cycle(reads),
        }
        self._methods: dict[str, Any] = {
            kind: channel.unary_unary(method) for kind, method in METHODS.items()
        }
        self._times: Times = {}
        self._loops: list[OpenLoop] = []
        self._running: asyncio.Future[Any] | None = None

    async def do(self, command: str, *arguments: Any) -> Any:
        match command:
            case "warm up":
                return await self._warm_up()
            case "peak":
                return await self._peak(*arguments)
            case "begin":
                return self._begin(*arguments)
            case "end":
                return await self._end()
        raise ValueError(command)

    async def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            for kind in KINDS:
                await self._call(kind)

    async def _peak(self, seconds: float) -> float:
        """Return the publishes a second of a closed loop."""
        begun, numbers = clock(), count()

        def until_end() -> Iterator[str]:
            while clock() - begun < seconds:
                next(numbers)
                yield PUBLISH

        await in_lanes(until_end(), self._call, lanes=PEAK_LANES)
        return next(numbers) / (clock() - begun)

    def _begin(self, kinds: Sequence[str], rate: float, max_in_flight: int | None) -> None:
        """Begin an open loop of each kind, at ``rate`` calls a second."""
        begin = clock() + HEAD_START
        self._times = {kind: [] for kind in kinds}
        self._loops = [
            self._open_loop(kind, begin, evenly_spaced(rate, number / len(kinds)), max_in_flight)
            for number, kind in enumerate(kinds)
        ]
        self._running = asyncio.gather(*(loop.run() for loop in self._loops))

    def _open_loop(
        self, kind: str, begin: float, offsets: Iterator[float], max_in_flight: int | None
    ) -> OpenLoop:
        async def call(due: float, _: bool) -> None:  # noqa: FBT001 - a callback
            await self._call(kind)
            self._times[kind].append(1000 * (clock() - due))

        due_times = (begin + offset for offset in offsets)
        return OpenLoop(due_times, call, max_in_flight=max_in_flight)

    async def _end(self) -> Times:
        """End the open loops. Return the times of their calls, in the order of the answers."""
        for loop in self._loops:
            loop.stop()
        if self._running is not None:
            await self._running
        return self._times

    async def _call(self, kind: str) -> None:
        await self._methods[kind](next(self._requests[kind]))


def run(target: str, pipe: Pipe) -> None:
    """Obey commands in a process of its own."""
    run_with_fine_timers(_run(target, pipe))


async def _run(target: str, pipe: Pipe) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        await obey(pipe, SteadyLoad(channel).do)
