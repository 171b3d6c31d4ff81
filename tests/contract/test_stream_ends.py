"""How streams end: with the server, by age, at limits, unread, or cancelled."""

import asyncio
import gc
import resource

import grpc
import pytest
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest

from feedsvc.config import Limits
from tests.contract.feeds_stream import FeedsStream
from tests.serving import Refusal, Serve, Service, Stream, read_until_refused, wait_until

#: Seconds between checkpoints: none comes while a test runs.
CHECKPOINT_NEVER = 300
#: Streams that a test opens and cancels: enough to notice what each leaves behind.
CYCLES = 2_000


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve(checkpoint_seconds=CHECKPOINT_NEVER)


async def test_draining_streams_end_one_after_another_with_a_token(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, drain_seconds=2)
    await service.follow("bob", "alice")
    feeds, streams = FeedsStream(service), [await service.subscribe("bob") for _ in range(20)]
    await feeds.add("bob")
    assert await feeds.read_event() == ("bob", "started", "")
    activity_id = await service.post("alice")
    for stream in streams:
        assert await stream.read_event() == ("added", activity_id)
    assert await feeds.read_event() == ("bob", "added", activity_id)
    endings: list[Refusal] = []

    async def read(stream: Stream | FeedsStream) -> None:
        endings.append(await read_until_refused(stream))

    reading = [asyncio.create_task(read(stream)) for stream in (*streams, feeds)]
    engine = service.server.engine
    engine.live.drain(1)

    async def first_has_ended() -> bool:
        return len(endings) > 0

    await wait_until(first_has_ended)
    assert len(endings) < 21
    await asyncio.gather(*reading)
    assert {ending.reason for ending in endings} == {"DRAINING"}
    assert {ending.code for ending in endings} == {grpc.StatusCode.UNAVAILABLE}
    other_server = await serve(checkpoint_seconds=CHECKPOINT_NEVER)
    last_id = await other_server.post("alice")
    for token in (streams[0].token, streams[-1].token, feeds.tokens["bob"]):
        assert await (await other_server.subscribe("bob", token)).read_event() == ("added", last_id)


async def test_stream_expires_at_its_greatest_age(serve: Serve) -> None:
    service = await serve(checkpoint_seconds=0.1, stream_seconds=1)
    await service.follow("bob", "alice")
    for stream in (await service.subscribe("bob"), await service.subscribe_all()):
        refusal = await read_until_refused(stream)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_EXPIRED")
        assert refusal.retry_ms is not None


async def test_stream_beyond_the_limit_is_refused(serve: Serve) -> None:
    """A stream counts until its call has ended; a refused stream does not count."""
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, max_streams=2)
    streams = [await service.subscribe("bob"), await service.subscribe_all()]
    for _ in range(3):
        refusal = await read_until_refused(
            Stream(service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob")))
        )
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "TOO_MANY_STREAMS")
        assert refusal.retry_ms is not None
    await streams[0].close()

    async def has_room() -> bool:
        stream = Stream(service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob")))
        try:
            return await stream.read_event() == ("started", "")
        except grpc.aio.AioRpcError:
            return False

    await wait_until(has_room)


async def test_stream_that_is_not_read_ends_and_frees_its_place(serve: Serve) -> None:
    """The place of the stream is free again even while its client still does not read."""
    limits = Limits(log_cap=5_000)
    service = await serve(checkpoint_seconds=CHECKPOINT_NEVER, write_seconds=0.5, limits=limits)
    await service.follow("bob", "alice")
    stream = await service.subscribe("bob")
    readers = service.server.engine.live._cursors
    assert readers
    for _ in range(8):
        await service.post_many("alice", 250, content="x" * 8_192)

    async def is_freed() -> bool:
        return not readers

    await wait_until(is_freed)
    refusal = await read_until_refused(stream)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STREAM_NOT_READ")
    last_id = await service.post("alice")
    resumed = await service.subscribe("bob", stream.token)
    assert (await resumed.read_until(("added", last_id)))[-1] == ("added", last_id)


async def open_and_cancel_streams(service: Service, count: int) -> None:
    """Open streams and cancel them, 50 at a time."""

    async def cycle(number: int) -> None:
        stream = await service.subscribe(f"u{number % 50}")
        await stream.close()

    for start in range(0, count, 50):
        await asyncio.gather(*(cycle(number) for number in range(start, start + 50)))


def peak_memory() -> int:
    """Return the greatest memory of the process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("count", [CYCLES, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_cancelled_streams_leave_nothing_behind(service: Service, count: int) -> None:
    """A cancelled stream leaves no task, no memory and no key."""
    await open_and_cancel_streams(service, 1_000)
    live = service.server.engine.live

    async def all_gone() -> bool:
        return not live._cursors and not live._streams

    await wait_until(all_gone)
    gc.collect()
    tasks_before = len(asyncio.all_tasks())
    keys_before = len(await service.store.keys())
    memory_before = peak_memory()
    await open_and_cancel_streams(service, count)
    await wait_until(all_gone)
    gc.collect()

    async def tasks_have_ended() -> bool:
        return len(asyncio.all_tasks()) <= tasks_before + 2

    await wait_until(tasks_have_ended)
    assert len(await service.store.keys()) == keys_before
    # A stream takes more than 10 KB: a leak of each would come to that.
    assert (peak_memory() - memory_before) * 1024 < count * 2_000
