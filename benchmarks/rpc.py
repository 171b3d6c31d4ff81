"""GetFeed and PublishActivity against an empty RPC of the same server.

The empty RPC stands behind the same port and the same interceptors, does nothing, and answers with
the very bytes that the call beside it answers with; its requests are that call's too. So it is what
the exchange would cost if the service cost nothing: the limit.

- 32 calls at a time on one channel, each begun when another was answered, by a client that neither
  encodes requests nor decodes answers: the same for both sides; then one at a time. S = 16.
- GetFeed: the first page, 20 activities, of one of 200 warm feeds in turn; each is the merge of 50
  outboxes.
- PublishActivity: one of 100 authors in turn; each has 10 followers in 10 shards, with warm feeds.
  No request id, as the client's retries would send one; with one the store keeps one record longer.
- 32 at a time: calls a second, and the CPU time a call of the server, over all its threads, and of
  the store. One at a time: the median of the milliseconds of 1,000 calls (100 in a quick run).
- The targets are for CPU time: it says what a call costs also where client, server and store share
  two cores, and rates do not.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks import population
from benchmarks.figures import Figure, quantile
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.server import EMPTY, EMPTY_ANSWER
from benchmarks.stage import Stage, cpu_seconds, stage
from benchmarks.turns import in_turns, timed
from feedsvc.core import ids

AT_A_TIME = 32
READERS, AUTHORS, FOLLOWEES = 200, 100, 50
FOLLOWERS = 10
GET_FEED = "/activityfeed.v1.FeedService/GetFeed"
PUBLISH = "/activityfeed.v1.ActivityService/PublishActivity"

Send = Callable[[bytes], Any]
_Raw: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A kind of call, and what it is sent with."""

    name: str
    method: str
    requests: Sequence[bytes]
    target: str
    """For the server's CPU a call, against the empty RPC's."""
    store_target: str = ""
    """For the store's CPU a call."""


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    figures: list[Figure] = []
    async with stage() as at, grpc.aio.insecure_channel(at.target) as channel:
        for exchange in (await _reading(at, report), await _publishing(at, report)):
            figures += await _against_empty(exchange, at, channel, scale, report)
    return figures


async def _reading(at: Stage, report: Progress) -> Exchange:
    readers, authors = _users("reader", READERS), _users("author", AUTHORS)
    chosen = random.Random(1)
    edges = [(one, other) for one in readers for other in chosen.sample(authors, FOLLOWEES)]
    await population.follow(at.client, edges, report)
    activities = [population.activity(one, number) for number in range(20) for one in authors]
    await population.publish_all(at.client, activities, report)
    await population.warm(at.client, readers, report)
    requests = [GetFeedRequest(user=one, page_size=20).SerializeToString() for one in readers]
    return Exchange("GetFeed, 20 activities", GET_FEED, requests, "<= 1.6")


async def _publishing(at: Stage, report: Progress) -> Exchange:
    authors = _users("publisher", AUTHORS)
    # One of each shard; of these each author gets ten.
    by_shard = {ids.shard_for(one, at.shards): one for one in _users("follower", 1_000)}
    followers = [by_shard[shard] for shard in range(at.shards)]
    chosen = random.Random(2)
    edges = [(one, author) for author in authors for one in chosen.sample(followers, FOLLOWERS)]
    await population.follow(at.client, edges, report)
    await population.warm(at.client, followers, report)
    requests = [
        PublishActivityRequest(activity=population.activity(one)).SerializeToString()
        for one in authors
    ]
    name = "PublishActivity to 10 followers in 10 shards"
    return Exchange(name, PUBLISH, requests, "<= 1.5", "<= 110 us")


async def _against_empty(
    exchange: Exchange, at: Stage, channel: grpc.aio.Channel, scale: Scale, report: Progress
) -> list[Figure]:
    call: _Raw = channel.unary_unary(exchange.method)
    empty: _Raw = channel.unary_unary(EMPTY)
    set_answer: _Raw = channel.unary_unary(EMPTY_ANSWER)
    answer: bytes = await call(exchange.requests[0])
    await set_answer(answer)
    cpu: dict[str, list[float]] = {"ours": [], "theirs": [], "store": []}

    async def turn(side: str, send: Send) -> float:
        processes = {side: at.server_pid}
        if side == "ours":
            processes["store"] = at.store_pid
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        seconds = await _calls(send, exchange.requests, scale.rpc_calls)
        for name, pid in processes.items():
            began, ended = before[name], cpu_seconds(pid)
            if began is not None and ended is not None:
                cpu[name].append((ended - began) / scale.rpc_calls * 1e6)
        return scale.rpc_calls / seconds

    rates = await in_turns(
        {"ours": lambda: turn("ours", call), "theirs": lambda: turn("theirs", empty)},
        scale.rounds,
        report,
        what=exchange.name,
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
        # The first of each is the round that warms up.
        ours, theirs, store = (tuple(values[1:]) for values in cpu.values())
        name = f"{exchange.name}, server's CPU a call"
        figures.append(Figure(name, "us", against, ours, theirs, exchange.target))
        name = f"{exchange.name}, store's CPU a call"
        target = exchange.store_target
        figures.append(Figure(name, "us", "", store, target=target, absolute=True))

    def alone(send: Send) -> Callable[[], Awaitable[float]]:
        waiting = itertools.cycle(exchange.requests)

        async def turn() -> float:
            return quantile(await timed(lambda: send(next(waiting)), scale.calls), 0.5)

        return turn

    times = await in_turns(
        {"ours": alone(call), "theirs": alone(empty)},
        scale.rounds,
        report,
        what=f"{exchange.name}, one at a time",
    )
    name = f"{exchange.name}, one at a time, p50"
    return [*figures, Figure(name, "ms", against, times["ours"], times["theirs"])]


async def _calls(send: Send, requests: Sequence[bytes], count: int) -> float:
    """Sends so many calls, AT_A_TIME of them at once; the seconds that it took."""
    waiting = itertools.islice(itertools.cycle(requests), count)

    async def lane() -> None:
        for request in waiting:
            await send(request)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(lane() for _ in range(AT_A_TIME)))
    return loop.time() - began


def _users(kind: str, count: int) -> list[str]:
    return [f"{kind}:{100_000 + number}" for number in range(count)]
