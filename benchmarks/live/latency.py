"""From a publish to its event.

- *Ours*: from just before PublishActivity is called until the message with that activity has been
  read from a SubscribeFeed stream of the author's only follower, on the same server; one activity
  after the other. The next publish waits for the event and for the answer.
- *Against it*: PUBLISH to SUBSCRIBE by redis-py's asyncio client on the same store, from just
  before `publish` is called until `listen` gave the message, which is an id. The store keeps
  nothing, and no other client gets the message.
- *The limit*: the same PUBLISH and SUBSCRIBE by a server of the same gRPC library
  (`benchmarks.servers.bare`): an RPC for PUBLISH, a stream for SUBSCRIBE, and a client that sends
  and reads bytes.
- *Quiet*: no other call is made. *Beside a load*: another process publishes to other followers
  (`benchmarks.load.steady`), half as many activities a second as the server took at the start. All
  sides are measured beside this load.

p50 and p99 of a turn of 1,000 (100 in a quick run). Publisher and subscriber are one process; they
share a channel to the service, and have a connection each with redis-py. S = 16; the server has its
workers.
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

from benchmarks.harness.figures import Figure
from benchmarks.harness.helper import open_helper
from benchmarks.harness.processes import server_process
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import open_stage
from benchmarks.harness.turns import percentiles_in_turns
from benchmarks.load import population, steady
from benchmarks.servers.bare import LISTEN, PUBLISH

AUTHOR, SUBSCRIBER = "live:author", "live:subscriber"
CHANNEL = "benchmark:alone"
#: Seconds in which the server's peak is measured, after seconds that do not count.
WARM_UP_SECONDS, PEAK_SECONDS = 0.5, 2.0
#: Share of the peak that the load has, and seconds until the load is steady.
SHARE, STEADY_SECONDS = 0.5, 0.3
#: Most publishes of the load in flight; the others wait, which counts. gRPC would cancel calls if
#: a thousand were in flight.
MAX_IN_FLIGHT = 500

#: Seconds within which an event must come.
PATIENCE = 30.0


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return p50 and p99, quiet and beside a load."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stage = await enter(open_stage())
        await steady.prepare_publishes(stage.client, stage.shards, progress)
        load = await enter(open_helper(steady.run, stage.target))
        await population.follow(stage.client, [(SUBSCRIBER, AUTHOR)], progress)
        _, port = await enter(server_process("benchmarks.servers.bare", stage.url))
        channel = await enter(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        ways = {
            "ours": await enter(Ours(stage.client)),
            "theirs": await enter(Theirs(stage.redis)),
            "limit": await enter(Limit(channel)),
        }
        progress.begin("the load that the server takes")
        await load.ask("peak", WARM_UP_SECONDS)
        rate = SHARE * float(await load.ask("peak", PEAK_SECONDS))
        quiet = await _measure(ways, scale, progress, "quiet")
        async with AsyncExitStack() as beside:
            beside.push_async_callback(load.ask, "end")
            await load.ask("begin", [steady.PUBLISH], rate, MAX_IN_FLIGHT)
            await asyncio.sleep(STEADY_SECONDS)
            title = f"beside {rate:,.0f} other publishes/s"
            loaded = await _measure(ways, scale, progress, title)
    return [*_figures("quiet", quiet), *_figures("beside half the peak of publishes", loaded)]


_Times = dict[str, dict[str, tuple[float, ...]]]
"""p50 and p99 of each way, by round."""


def _figures(condition: str, times: _Times) -> list[Figure]:
    name = f"publish to event, {condition}"
    bare = "bare PUBLISH to SUBSCRIBE, redis-py asyncio"
    return [
        Figure(f"{name}, {share}", "ms", bare, times[share]["ours"], times[share]["theirs"])
        for share in ("p50", "p99")
    ] + [
        Figure(
            f"{name}, {share}, the limit",
            "ms",
            "an RPC that does PUBLISH, and a stream of what SUBSCRIBE gives",
            times[share]["ours"],
            times[share]["limit"],
            "<= 2" if (condition, share) == ("quiet", "p50") else "",
        )
        for share in ("p50", "p99")
    ]


async def _measure(ways: "dict[str, Way]", scale: Scale, progress: Progress, title: str) -> _Times:
    def side(way: "Way") -> Callable[[], Awaitable[list[float]]]:
        async def turn() -> list[float]:
            return [1000 * await way.publish_once() for _ in range(scale.calls)]

        return turn

    return await percentiles_in_turns(
        {name: side(way) for name, way in ways.items()},
        scale.rounds,
        progress,
        title=f"publish to event, {title}",
    )


class Way(ABC):
    """A way from a publisher to a subscriber. A background task reads the messages."""

    def __init__(self) -> None:
        self._arrived: asyncio.Future[tuple[float, str]] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._has_begun = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._ended)
        async with asyncio.timeout(PATIENCE):
            await self._has_begun.wait()
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
        """Fail the publish that waits for a message: no message will come."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_exception(RuntimeError("the messages have ended"))
        if not reading.cancelled():
            reading.result()

    async def publish_once(self) -> float:
        """Publish a message, and return the seconds until it came."""
        self._arrived = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        sent = await self._publish()
        async with asyncio.timeout(PATIENCE):
            arrival, name = await self._arrived
        if name != sent:
            raise RuntimeError(f"{name} came instead of {sent}")
        return arrival - begun

    async def _read(self) -> None:
        async with aclosing(self._messages()) as messages:
            async for name in messages:
                arrival = time.perf_counter()
                if name is None:
                    self._has_begun.set()
                elif self._arrived is not None:
                    self._arrived.set_result((arrival, name))

    @abstractmethod
    async def _publish(self) -> str:
        """Publish a message, and return its name."""

    @abstractmethod
    def _messages(self) -> AsyncGenerator[str | None, None]:
        """Yield None when the subscription has begun, and then the name of each message."""


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
