"""GetFeed and PublishActivity against an empty RPC of the same server.

The empty RPC has the same port and the same interceptors, and does nothing. It gets the requests of
the call that it is compared with, and answers with the bytes of that call's answer. So its cost is
the limit: the cost of the call if the service itself cost nothing.

- 32 calls at a time on one channel, each begun when another was answered, by a client that neither
  encodes requests nor decodes answers: the same for both sides; then one at a time. S = 16.
- GetFeed: the first page, 20 activities, of one of 200 warm feeds in turn; each is the merge of 50
  outboxes.
- PublishActivity: one of 100 authors in turn; each has 10 followers in 10 shards, with warm feeds.
  Without a request id; with a request id, as the client's retries send it, the store keeps one more
  record.
- 32 at a time: calls a second, and the CPU time a call of the server, over all its threads, and of
  the store. One at a time: the median of the milliseconds of 1,000 calls (100 in a quick run).
- The targets are for CPU time, because CPU time is the cost of a call even where client, server and
  store share two cores. Rates are not.
"""

import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks.harness.figures import Figure, quantile
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.turns import in_turns, timed
from benchmarks.load import population
from benchmarks.servers.measured import EMPTY, EMPTY_ANSWER
from feedsvc.cli.load_test.clock import clock
from feedsvc.cli.load_test.pacing import in_lanes

AT_A_TIME = 32
READERS, AUTHORS, FOLLOWEES = 200, 100, 50
FOLLOWERS = 10
PAGE = 20
GET_FEED = "/activityfeed.v1.FeedService/GetFeed"
PUBLISH = "/activityfeed.v1.ActivityService/PublishActivity"

Send = Callable[[bytes], Any]
_Raw: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A kind of call, and its requests."""

    name: str
    method: str
    requests: Sequence[bytes]
    target: str
    """Target for the server's CPU a call, against the empty RPC's."""
    store_target: str = ""
    """Target for the store's CPU a call."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of GetFeed and of PublishActivity."""
    figures: list[Figure] = []
    async with open_stage() as stage, grpc.aio.insecure_channel(stage.target) as channel:
        for exchange in (await _reading(stage, progress), await _publishing(stage, progress)):
            figures += await _against_empty(exchange, stage, channel, scale, progress)
    return figures


async def _reading(stage: Stage, progress: Progress) -> Exchange:
    readers, authors = population.names("reader", READERS), population.names("author", AUTHORS)
    rng = random.Random(1)
    edges = [(reader, author) for reader in readers for author in rng.sample(authors, FOLLOWEES)]
    await population.follow(stage.client, edges, progress)
    activities = [
        population.activity(author, number) for number in range(PAGE) for author in authors
    ]
    await population.publish_all(stage.client, activities, progress)
    await population.warm(stage.client, readers, progress)
    requests = [
        GetFeedRequest(user=reader, page_size=PAGE).SerializeToString() for reader in readers
    ]
    return Exchange("GetFeed, 20 activities", GET_FEED, requests, "<= 1.6")


async def _publishing(stage: Stage, progress: Progress) -> Exchange:
    authors = population.names("publisher", AUTHORS)
    candidates = population.names("follower", population.CANDIDATES)
    followers = population.follower_of_each_shard(stage.shards, candidates)
    edges = population.scattered_edges(authors, followers, FOLLOWERS, random.Random(2))
    await population.follow(stage.client, edges, progress)
    await population.warm(stage.client, followers, progress)
    requests = population.encoded_publishes(authors)
    name = "PublishActivity to 10 followers in 10 shards"
    return Exchange(name, PUBLISH, requests, "<= 1.5", "<= 110 us")


async def _against_empty(
    exchange: Exchange, stage: Stage, channel: grpc.aio.Channel, scale: Scale, progress: Progress
) -> list[Figure]:
    call: _Raw = channel.unary_unary(exchange.method)
    empty: _Raw = channel.unary_unary(EMPTY)
    set_answer: _Raw = channel.unary_unary(EMPTY_ANSWER)
    answer: bytes = await call(exchange.requests[0])
    await set_answer(answer)
    cpu: dict[str, list[float]] = {"ours": [], "theirs": [], "store": []}

    async def turn(side: str, send: Send) -> float:
        pids = {side: stage.server_pid}
        if side == "ours":
            pids["store"] = stage.store_pid
        meter = CpuMeter(pids)
        seconds = await _call(send, exchange.requests, scale.rpc_calls)
        for name, cpu_seconds in meter.used().items():
            cpu[name].append(cpu_seconds / scale.rpc_calls * 1e6)
        return scale.rpc_calls / seconds

    rates = await in_turns(
        {"ours": lambda: turn("ours", call), "theirs": lambda: turn("theirs", empty)},
        scale.rounds,
        progress,
        title=exchange.name,
    )
    against = f"an empty RPC that answers the same {len(answer):,} bytes"
    figures = [
        Figure(
            f"{exchange.name}, {AT_A_TIME} at a time",
            "calls/s",
            against,
            rates["ours"],
            rates["theirs"],
        )
    ]
    if cpu["ours"]:
        # The first value of each list is that of the warm-up.
        ours, theirs, store = (tuple(values[1:]) for values in cpu.values())
        name = f"{exchange.name}, server's CPU a call"
        figures.append(Figure(name, "us", against, ours, theirs, exchange.target))
        name = f"{exchange.name}, store's CPU a call"
        target = exchange.store_target
        figures.append(Figure(name, "us", "", store, target=target, absolute=True))

    def alone(send: Send) -> Callable[[], Awaitable[float]]:
        requests = itertools.cycle(exchange.requests)

        async def turn() -> float:
            return quantile(await timed(lambda: send(next(requests)), scale.calls), 0.5)

        return turn

    times = await in_turns(
        {"ours": alone(call), "theirs": alone(empty)},
        scale.rounds,
        progress,
        title=f"{exchange.name}, one at a time",
    )
    name = f"{exchange.name}, one at a time, p50"
    return [*figures, Figure(name, "ms", against, times["ours"], times["theirs"])]


async def _call(send: Send, requests: Sequence[bytes], count: int) -> float:
    """Make ``count`` calls, AT_A_TIME of them at once, and return the seconds that they took."""
    begun = clock()
    await in_lanes(itertools.islice(itertools.cycle(requests), count), send, lanes=AT_A_TIME)
    return clock() - begun
