"""The store's clock is the reference: a server whose clock is wrong harms nobody."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub

from feedsvc.core import ids
from feedsvc.core.clock import Clock as StoreClock
from tests.faults.clock import Clock, library
from tests.faults.processes import Process, feedsvc_command
from tests.serving import Service, at_ms

DAY = 86_400
#: What an id may be ahead of the store's clock, in milliseconds, or behind it when it is of now.
SKEW_MS = 3_000


async def store_ms(service: Service) -> int:
    seconds, us = await service.store.time()
    return int(seconds) * 1000 + int(us) // 1000


@asynccontextmanager
async def wrong(folder: Path, url: str, seconds: int) -> AsyncIterator[ActivityServiceStub]:
    """A server process with a wrong clock."""
    clock = Clock(folder / "clock")
    clock.step(seconds)
    command = feedsvc_command("serve", "--port", "0", "--redis-url", url)
    process = Process("server", command, folder / "log", clock.environment)
    process.launch()
    try:
        line = await process.until_it_says("serving on")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{line.rpartition(':')[2]}") as channel:
            yield ActivityServiceStub(channel)
    finally:
        process.kill()


async def post(stub: ActivityServiceStub, actor: str, publish_ms: int | None = None) -> str:
    activity = Activity(actor=actor, verb="post")
    if publish_ms is not None:
        activity.publish_time.CopyFrom(at_ms(publish_ms))
    return str((await stub.PublishActivity(PublishActivityRequest(activity=activity))).activity.id)


@pytest.mark.skipif(library() is None, reason="clocks are not stepped without libfaketime")
@pytest.mark.parametrize("seconds", [DAY, -DAY])
async def test_server_with_a_wrong_clock(
    tmp_path: Path, store_url: str, service: Service, seconds: int
) -> None:
    """It pins nothing above what comes, and puts nothing below what readers have seen."""
    await service.follow("carol", "alice")
    await service.follow("carol", "bob")
    before = await service.post("bob")
    async with wrong(tmp_path, store_url, seconds) as stub:
        known = await service.page("carol")
        posted = await post(stub, "alice")
        planned = await post(stub, "alice", await store_ms(service) + 2 * DAY * 1000)
        after = await service.post("bob")
    assert await service.feed("carol") == [after, planned, posted, before]
    newer = await service.page("carol", known.newer_page_token)
    assert [one.activity.activity.id for one in newer.items] == [after, planned, posted]


@pytest.mark.every_store
@pytest.mark.parametrize("seconds", [DAY, -DAY])
async def test_what_a_server_believes_is_checked(service: Service, seconds: int) -> None:
    """What it has learned may be old: then the store itself moves the id to its own time."""
    clock = service.server.engine.store.clock
    clock.learn = lambda *_: None  # type: ignore[method-assign]
    clock._offset += seconds
    first = await service.post("alice")
    with_time = await service.post(
        "alice", publish_time=at_ms(await store_ms(service) + 2 * DAY * 1000)
    )
    now = await store_ms(service)
    assert abs(ids.ms_of(int(first)) - now) <= SKEW_MS
    if seconds > 0:
        assert abs(ids.ms_of(int(with_time)) - now) <= SKEW_MS
    assert ids.shard_of(int(first)) == ids.shard_for("alice", 16)
    told = await asyncio.gather(*(service.post("alice") for _ in range(50)))
    assert len({*told}) == 50
    past = await service.post("dave", publish_time=at_ms(now - 30 * DAY * 1000))
    assert ids.ms_of(int(past)) == now - 30 * DAY * 1000


def test_clock_keeps_what_agrees_and_takes_the_nearest_that_does() -> None:
    clock = StoreClock()
    base = time.monotonic()
    clock.learn(1_000_000_000, base, base + 0.010)  # the store said 1000 s at some moment of those
    offset = clock._offset
    assert 1000 - 0.010 <= offset + base <= 1000
    clock.learn(1_000_500_000, base + 0.4, base + 2.0)  # it says as much again, less exactly
    assert clock._offset == offset
    clock.learn(500_000_000, base + 3, base + 3.5)  # it was set back
    assert clock._offset == pytest.approx(500 - (base + 3))
