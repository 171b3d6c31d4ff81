"""Memory of a subscriber that gets no events.

Bytes by which the server's resident memory grows with each stream, from the first 100 streams to
5,000 and to 10,000 (500 and 1,000 in a quick run), whose first messages have been read. Garbage is
collected before each reading. The first 100 streams open the 32 connections, and load all that the
first calls need, so their memory does not count.

- *Ours*: a server that has done nothing before, on a store in which each of the users follows one
  entity. Their feeds become warm with the first round.
- *Against it*: `benchmarks.servers.bare`, which sends a first message and waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import grpc.aio

from benchmarks.harness.figures import Figure
from benchmarks.harness.helper import open_helper
from benchmarks.harness.processes import resident_bytes, server_process
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import open_stage, serving
from benchmarks.harness.turns import in_turns
from benchmarks.live.events import open_streams
from benchmarks.load import population, subscribers
from benchmarks.servers.measured import COLLECT
from feedsvc.config import Limits

FOLLOWEE = "quiet"
#: Streams that are open before the growth is measured.
FIRST_STREAMS = 100
#: Seconds after the last stream was opened.
REST_SECONDS = 1.0

Start = Callable[[], AbstractAsyncContextManager[tuple[int, int]]]
"""Function that starts a server, and yields its process id and its port."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return the bytes a subscriber, for each number of subscribers."""
    few_streams, many_streams = scale.idle_subscribers
    async with open_stage() as stage:
        if resident_bytes(stage.server_pid) is None:
            return []
        edges = [(user, FOLLOWEE) for user in population.users(many_streams)]
        await population.follow(stage.client, edges, progress)
        bytes_of_many: dict[str, list[float]] = {"ours": [], "theirs": []}

        def side(name: str, start: Start) -> Callable[[], Awaitable[float]]:
            async def turn() -> float:
                of_few, of_many = await _weigh(start, (few_streams, many_streams), progress)
                bytes_of_many[name].append(of_many)
                return of_few

            return turn

        bytes_of_few = await in_turns(
            {
                "ours": side("ours", lambda: serving(stage.url, Limits())),
                "theirs": side(
                    "theirs", lambda: server_process("benchmarks.servers.bare", stage.url)
                ),
            },
            scale.slow_rounds,
            progress,
            title="memory of idle subscribers",
            warm_up=False,
        )
    return [
        Figure(
            f"memory of an idle subscriber, {count:,} of them",
            "bytes",
            "an idle stream of a bare gRPC server",
            tuple(values["ours"]),
            tuple(values["theirs"]),
            "<= 1.5",
        )
        for count, values in ((few_streams, bytes_of_few), (many_streams, bytes_of_many))
    ]


async def _weigh(start: Start, counts: tuple[int, int], progress: Progress) -> list[float]:
    """Return the bytes a subscriber, for each number of subscribers."""
    async with start() as (pid, port):
        target = f"127.0.0.1:{port}"
        async with (
            open_helper(subscribers.run, target) as streams,
            grpc.aio.insecure_channel(target) as channel,
        ):
            collect: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(COLLECT)

            async def resident(count: int) -> int:
                await open_streams(streams, count, progress)
                await asyncio.sleep(REST_SECONDS)
                await collect(b"")
                return resident_bytes(pid) or 0

            at_first = await resident(FIRST_STREAMS)
            return [
                (await resident(count) - at_first) / (count - FIRST_STREAMS) for count in counts
            ]
