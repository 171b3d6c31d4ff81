"""From a publish to its event.

- *Ours*: from just before PublishActivity is called until the message with that activity has been
  read from a SubscribeFeed stream of the author's only follower, on the same server; one activity
  after the other. The next one waits for the event and for the answer.
- *Against it*: PUBLISH to SUBSCRIBE by redis-py's asyncio client on the same store, from just
  before `publish` is called until `listen` gave the message, which is an id. Nothing is stored and
  nobody else is told.
- *The limit*: the same PUBLISH and SUBSCRIBE by a server of the same gRPC library (`live_bare.py`),
  an RPC for the one and a stream for the other, and a client that sends and reads bytes.
- *Quiet*: nothing else happens. *Beside a load*: while another process publishes to others
  (`live_load.py`) half as many a second as it could at the start; all sides are measured
  beside it.

p50 and p99 of a turn of 1,000 (100 in a quick run). Publisher and subscriber are one process, on
one channel of ours and on a connection for each with redis-py. S = 16; the server has its workers.
"""

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest

from benchmarks import live_load, population
from benchmarks.figures import Figure, quantile
from benchmarks.live_bare import LISTEN, PUBLISH
from benchmarks.live_helper import helper
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import process, stage
from benchmarks.turns import in_turns

AUTHOR, SUBSCRIBER = "live:author", "live:subscriber"
CHANNEL = "benchmark:alone"
#: Seconds for which the most that the server takes is measured, after some that do not count.
WARM_UP_SECONDS, PEAK_SECONDS = 0.5, 2.0
#: Of that, the load beside which events are measured, and seconds until it is steady.
SHARE, STEADY_SECONDS = 0.5, 0.3

#: Seconds that an event may take.
PATIENCE = 30.0


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """p50 and p99, quiet and beside a load."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        on = await enter(stage())
        await live_load.populate(on.client, on.shards, report)
        load = await enter(helper("benchmarks.live_load", on.target))
        await population.follow(on.client, [(SUBSCRIBER, AUTHOR)], report)
        _, port = await enter(process("benchmarks.live_bare", on.url))
        channel = await enter(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        ways = {
            "ours": await enter(Ours(on.client)),
            "theirs": await enter(Theirs(on.redis)),
            "limit": await enter(Limit(channel)),
        }
        report.phase("the load that the server takes", 0)
        await load.ask("peak", WARM_UP_SECONDS)
        rate = SHARE * float(await load.ask("peak", PEAK_SECONDS))
        quiet = await _measured(ways, scale, report, "quiet")
        async with AsyncExitStack() as beside:
            beside.push_async_callback(load.ask, "end")
            await load.ask("begin", rate)
            await asyncio.sleep(STEADY_SECONDS)
            what = f"beside {rate:,.0f} other publishes/s"
            loaded = await _measured(ways, scale, report, what)
    return [*_figures("quiet", quiet), *_figures("beside half the peak of publishes", loaded)]


_Times = dict[str, dict[str, tuple[float, ...]]]
"""By way, p50 and p99 of each round."""


def _figures(how: str, of: _Times) -> list[Figure]:
    name = f"publish to event, {how}"
    bare = "bare PUBLISH to SUBSCRIBE, redis-py asyncio"
    return [
        Figure(f"{name}, {share}", "ms", bare, of["ours"][share], of["theirs"][share])
        for share in ("p50", "p99")
    ] + [
        Figure(
            f"{name}, {share}, the limit",
            "ms",
            "an RPC that does PUBLISH, and a stream of what SUBSCRIBE gives",
            of["ours"][share],
            of["limit"][share],
            "<= 2" if (how, share) == ("quiet", "p50") else "",
        )
        for share in ("p50", "p99")
    ]


async def _measured(ways: "dict[str, Way]", scale: Scale, report: Progress, what: str) -> _Times:
    slow: dict[str, list[float]] = {name: [] for name in ways}

    def turn(name: str) -> Callable[[], Awaitable[float]]:
        async def publishes() -> float:
            times = [1000 * await ways[name].once() for _ in range(scale.calls)]
            slow[name].append(quantile(times, 0.99))
            return quantile(times, 0.5)

        return publishes

    medians = await in_turns(
        {name: turn(name) for name in ways},
        scale.rounds,
        report,
        what=f"publish to event, {what}",
    )
    # The first is that of the turn that warms up.
    return {name: {"p50": medians[name], "p99": tuple(slow[name][1:])} for name in ways}


class Way(ABC):
    """A way from a publisher to a subscriber, in the background of which messages are read."""

    def __init__(self) -> None:
        self._arrived: asyncio.Future[tuple[float, str]] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._ended)
        async with asyncio.timeout(PATIENCE):
            await self._begun.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def _ended(self, reading: asyncio.Task[None]) -> None:
        """Whoever waits for a message waits in vain."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_exception(RuntimeError("the messages have ended"))
        if not reading.cancelled():
            reading.result()

    async def once(self) -> float:
        """Publishes something; the seconds until it was there."""
        self._arrived = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        sent = await self._publish()
        async with asyncio.timeout(PATIENCE):
            moment, came = await self._arrived
        if came != sent:
            raise RuntimeError(f"{came} came instead of {sent}")
        return moment - begun

    async def _read(self) -> None:
        async with aclosing(self._messages()) as messages:
            async for came in messages:
                moment = time.perf_counter()
                if came is None:
                    self._begun.set()
                elif self._arrived is not None:
                    self._arrived.set_result((moment, came))

    @abstractmethod
    async def _publish(self) -> str:
        """Publishes something that is told by its name."""

    @abstractmethod
    def _messages(self) -> AsyncGenerator[str | None, None]:
        """The names as they come, when it has begun, which None says."""


class Ours(Way):
    """PublishActivity to SubscribeFeed."""

    def __init__(self, client: FeedClient) -> None:
        super().__init__()
        self._client = client
        self._request = PublishActivityRequest(activity=population.activity(AUTHOR))

    async def _publish(self) -> str:
        return (await self._client.activities.PublishActivity(self._request)).activity.id

    async def _messages(self) -> AsyncGenerator[str | None, None]:
        async with aclosing(self._client.subscribe(SUBSCRIBER)) as messages:
            async for message in messages:
                if message.HasField("started"):
                    yield None
                for event in message.events.events:
                    if event.HasField("added"):
                        yield event.added.activity.activity.id


class Theirs(Way):
    """PUBLISH to SUBSCRIBE."""

    def __init__(self, redis: Any) -> None:
        super().__init__()
        self._redis = redis
        self._ids = itertools.count(int(time.time() * 1000) << 21)

    async def _publish(self) -> str:
        sent = f"{next(self._ids)}"
        await self._redis.publish(CHANNEL, sent)
        return sent

    async def _messages(self) -> AsyncGenerator[str | None, None]:
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for message in channel.listen():
                yield message["data"].decode() if message["type"] == "message" else None


class Limit(Way):
    """PUBLISH to SUBSCRIBE, by RPCs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__()
        self._send: Any = channel.unary_unary(PUBLISH)
        self._listen: Any = channel.unary_stream(LISTEN)
        self._ids = itertools.count(int(time.time() * 1000) << 21)

    async def _publish(self) -> str:
        sent = f"{next(self._ids)}"
        await self._send(sent.encode())
        return sent

    async def _messages(self) -> AsyncGenerator[str | None, None]:
        async for message in self._listen(b""):
            yield message.decode() or None
