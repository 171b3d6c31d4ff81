"""The store's clock is the reference: a server whose clock is wrong does no harm."""

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
from tests.harness.clock import Clock, find_library
from tests.harness.processes import Process, feedsvc_command
from tests.serving import Service, at_ms

DAY = 86_400
#: Most milliseconds between the store's clock and the time in an id of now, in either direction.
SKEW_MS = 3_000


async def store_ms(service: Service) -> int:
    seconds, us = await service.store.time()
    return int(seconds) * 1000 + int(us) // 1000


@asynccontextmanager
async def server_with_wrong_clock(
    folder: Path, url: str, seconds: int
) -> AsyncIterator[ActivityServiceStub]:
    """Run a server process whose clock is wrong by `seconds`."""
    clock = Clock(folder / "clock")
    clock.step(seconds)
    command = feedsvc_command("serve", "--port", "0", "--redis-url", url)
    process = Process("server", command, folder / "log", clock.environment)
    process.launch()
    try:
        line = await process.wait_for_line("serving on")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{line.rpartition(':')[2]}") as channel:
            yield ActivityServiceStub(channel)
    finally:
        process.kill()


async def post(stub: ActivityServiceStub, actor: str, publish_ms: int | None = None) -> str:
    activity = Activity(actor=actor, verb="post")
    if publish_ms is not None:
        activity.publish_time.CopyFrom(at_ms(publish_ms))
    return str((await stub.PublishActivity(PublishActivityRequest(activity=activity))).activity.id)


@pytest.mark.skipif(find_library() is None, reason="clocks are not stepped without libfaketime")
@pytest.mark.parametrize("seconds", [DAY, -DAY])
async def test_server_with_a_wrong_clock_keeps_activities_in_order(
    tmp_path: Path, store_url: str, service: Service, seconds: int
) -> None:
    """Pitfall: a server trusts its own clock, so that it pins an activity on top of later ones.

    A clock that is behind must not put an activity below what readers have seen already.
    """
    await service.follow("carol", "alice")
    await service.follow("carol", "bob")
    id_before = await service.post("bob")
    async with server_with_wrong_clock(tmp_path, store_url, seconds) as stub:
        page_before = await service.page("carol")
        activity_id = await post(stub, "alice")
        future_id = await post(stub, "alice", await store_ms(service) + 2 * DAY * 1000)
        id_after = await service.post("bob")
    assert await service.feed("carol") == [id_after, future_id, activity_id, id_before]
    newer_page = await service.page("carol", page_before.newer_page_token)
    assert [item.activity.activity.id for item in newer_page.items] == [
        id_after,
        future_id,
        activity_id,
    ]


@pytest.mark.every_store
@pytest.mark.parametrize("seconds", [DAY, -DAY])
async def test_store_corrects_an_id_when_the_server_clock_is_wrong(
    service: Service, seconds: int
) -> None:
    """Pitfall: a server whose clock is out of date makes ids that nothing checks.

    The store moves such an id to its own time.
    """
    clock = service.server.engine.store.clock
    clock.learn = lambda *_: None  # type: ignore[method-assign]
    clock._offset += seconds
    activity_id = await service.post("alice")
    future_id = await service.post(
        "alice", publish_time=at_ms(await store_ms(service) + 2 * DAY * 1000)
    )
    now_ms = await store_ms(service)
    assert abs(ids.ms_of(int(activity_id)) - now_ms) <= SKEW_MS
    if seconds > 0:
        assert abs(ids.ms_of(int(future_id)) - now_ms) <= SKEW_MS
    assert ids.shard_of(int(activity_id)) == ids.shard_for("alice", 16)
    concurrent_ids = await asyncio.gather(*(service.post("alice") for _ in range(50)))
    assert len({*concurrent_ids}) == 50
    past_id = await service.post("dave", publish_time=at_ms(now_ms - 30 * DAY * 1000))
    assert ids.ms_of(int(past_id)) == now_ms - 30 * DAY * 1000


def test_clock_keeps_its_offset_until_the_store_time_contradicts_it() -> None:
    """Pitfall: each inexact reading of the store's time moves a clock that was right."""
    clock = StoreClock()
    base = time.monotonic()
    clock.learn(1_000_000_000, base, base + 0.010)  # the store's time was 1000 s within these 10 ms
    offset = clock._offset
    assert 1000 - 0.010 <= offset + base <= 1000
    clock.learn(1_000_500_000, base + 0.4, base + 2.0)  # the same time again, less exactly
    assert clock._offset == offset
    clock.learn(500_000_000, base + 3, base + 3.5)  # the store's clock was set back
    assert clock._offset == pytest.approx(500 - (base + 3))
