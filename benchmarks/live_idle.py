"""Memory of a subscriber to whom nothing happens.

Bytes by which the server's resident memory grows with each stream, from the first 100 streams to
5,000 and to 10,000 (500 and 1,000 in a quick run), whose first messages have been read. Garbage is
collected before each reading. The first 100 have the 32 connections made, and all loaded that the
first calls need; it is no part of it.

- *Ours*: a server that has done nothing before, on a store in which each of the users follows one
  entity. Their feeds become warm with the first round.
- *Against it*: `live_bare.py`, which sends a first message and waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import grpc.aio

from benchmarks import population
from benchmarks.figures import Figure
from benchmarks.live_events import opened
from benchmarks.live_helper import helper
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.server import COLLECT
from benchmarks.stage import process, resident_bytes, serving, stage
from benchmarks.turns import in_turns
from feedsvc.config import Limits

FOLLOWEE = "quiet"
FIRST = 100
#: Seconds after the last stream was opened.
REST_SECONDS = 1.0

Start = Callable[[], AbstractAsyncContextManager[tuple[int, int]]]


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Bytes a subscriber, for each number of them."""
    async with stage() as on:
        if resident_bytes(on.server_pid) is None:
            return []
        edges = [(user, FOLLOWEE) for user in population.users(scale.idle[-1])]
        await population.follow(on.client, edges, report)
        more: dict[str, list[float]] = {"ours": [], "theirs": []}

        def side(name: str, start: Start) -> Callable[[], Awaitable[float]]:
            async def turn() -> float:
                some, most = await _weighed(start, scale.idle, report)
                more[name].append(most)
                return some

            return turn

        values = await in_turns(
            {
                "ours": side("ours", lambda: serving(on.url, Limits())),
                "theirs": side("theirs", lambda: process("benchmarks.live_bare", on.url)),
            },
            scale.few_rounds,
            report,
            what="memory of idle subscribers",
            warm_up=False,
        )
    return [
        Figure(
            f"memory of an idle subscriber, {count:,} of them",
            "bytes",
            "an idle stream of a bare gRPC server",
            tuple(of["ours"]),
            tuple(of["theirs"]),
            "<= 1.5",
        )
        for count, of in ((scale.idle[0], values), (scale.idle[1], more))
    ]


async def _weighed(start: Start, counts: tuple[int, int], report: Progress) -> list[float]:
    """Bytes a subscriber, for each number of them."""
    async with start() as (pid, port):
        target = f"127.0.0.1:{port}"
        async with (
            helper("benchmarks.live_subscribers", target) as subscribers,
            grpc.aio.insecure_channel(target) as channel,
        ):
            collect: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(COLLECT)

            async def resident(count: int) -> int:
                await opened(subscribers, count, report)
                await asyncio.sleep(REST_SECONDS)
                await collect(b"")
                return resident_bytes(pid) or 0

            few = await resident(FIRST)
            return [(await resident(count) - few) / (count - FIRST) for count in counts]
