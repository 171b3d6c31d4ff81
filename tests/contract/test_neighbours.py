"""What one caller does does not stop the others: turns, shared waiting, bounds, and the way out."""

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from google.protobuf.struct_pb2 import Struct

from feedsvc import admission, validation
from feedsvc.config import Limits
from feedsvc.core.batching import CALLER
from feedsvc.core.job import Delivery, Job
from feedsvc.services.activities import ENTRIES_AT_ONCE
from tests.serving import SECONDS, Serve, Service, refused, until


@asynccontextmanager
async def other_caller(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    """A connection beside the service's own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{service.server.port}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield channel


def batch(actor: str, count: int, **entry: Any) -> BatchPublishActivitiesRequest:
    activity = Activity(actor=actor, verb="post", **entry.pop("activity", {}))
    return BatchPublishActivitiesRequest(
        requests=[PublishActivityRequest(activity=activity, **entry) for _ in range(count)]
    )


async def test_a_batch_is_published_a_few_entries_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its entries are not all decoded at once, and others' commands go between."""
    activities = service.server.engine.activities
    publish, under_way, most = activities.publish, 0, 0

    async def watched(*arguments: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await publish(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(activities, "publish", watched)
    answer = await service.activities.BatchPublishActivities(batch("alice", 500))
    assert all(result.HasField("response") for result in answer.results)
    assert 1 < most <= ENTRIES_AT_ONCE
    ids = [result.response.activity.id for result in answer.results]
    assert ids == sorted(set(ids))
    assert await service.outbox("alice") == ids[::-1]


async def test_entries_are_checked_between_other_work(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes round between any two entries, whoever sent them."""
    loop = asyncio.get_running_loop()
    rounds = 0
    checked: list[int] = []
    check = validation.check

    def turn() -> None:
        nonlocal rounds
        rounds += 1
        if going:
            loop.call_soon(turn)

    def noted(request: Any) -> None:
        if isinstance(request, PublishActivityRequest):
            checked.append(rounds)
        check(request)

    monkeypatch.setattr(validation, "check", noted)
    extra = Struct()
    extra["nulls"] = [None] * 3_000
    going = True
    loop.call_soon(turn)
    try:
        async with other_caller(service) as channel:
            await asyncio.gather(
                *(
                    stub.BatchPublishActivities(batch(f"actor {n}", 50, activity={"extra": extra}))
                    for n, stub in enumerate([ActivityServiceStub(channel), service.activities])
                )
            )
    finally:
        going = False
    assert len(checked) == 100
    assert len(set(checked)) == 100


async def test_callers_with_one_connection_each_have_a_share(serve: Serve) -> None:
    """What one of them has waiting is not read, and others do not wait for it."""
    service = await serve(caller_work=4)
    engine = service.server.engine
    hold = asyncio.Event()
    pages = engine.feeds.page
    begun: list[str] = []

    async def held(user: str, *rest: Any) -> Any:
        begun.append(user)
        if user.startswith("greedy"):
            await hold.wait()
        return await pages(user, *rest)

    engine.feeds.page = held  # type: ignore[method-assign]
    async with other_caller(service) as channel:
        stub = FeedServiceStub(channel)
        greedy = [
            asyncio.ensure_future(stub.GetFeed(GetFeedRequest(user=f"greedy {n}")))
            for n in range(30)
        ]

        async def share_taken() -> bool:
            return service.server._admission.calls == 30

        await until(share_taken)
        await service.page("calm")
        assert (len(begun), begun[-1]) == (5, "calm")
        waiting = [call for n, call in enumerate(greedy) if f"greedy {n}" not in begun]
        for call in waiting[:10]:
            call.cancel()
        await asyncio.wait(waiting[:10])

        async def gone() -> bool:
            return service.server._admission.calls == 20

        await until(gone)
        hold.set()
        await asyncio.gather(*(call for call in greedy if call not in waiting[:10]))
    assert len(begun) == 21  # those that were cancelled never began


async def test_streams_take_turns_with_other_callers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stream asks of the store is its connection's, like that of other calls."""
    service = await serve(checkpoint_seconds=0.1)
    engine, callers = service.server.engine, dict[str, object]()
    page, warm = engine.feeds.page, engine.feeds.warm

    async def noted_page(user: str, *rest: Any) -> Any:
        callers["call"] = CALLER.get()
        return await page(user, *rest)

    async def noted_warm(user: str) -> None:
        callers["stream"] = CALLER.get()
        await warm(user)

    monkeypatch.setattr(engine.feeds, "page", noted_page)
    monkeypatch.setattr(engine.feeds, "warm", noted_warm)
    await service.page("bob")
    stream = await service.subscribe("bob")
    await stream.message()
    await stream.close()
    assert callers["call"] is not None
    assert callers["stream"] == callers["call"]


async def test_who_waits_for_deliveries_does_not_take_places(serve: Serve) -> None:
    limits = Limits(inline_audience=1, push_chunk=1)
    service = await serve(caller_work=2, limits=limits, workers=0)
    await service.follow_all([(f"f{n}", "alice") for n in range(3)])
    waiting = [asyncio.ensure_future(service.publish("alice", wait=True)) for _ in range(8)]

    async def all_wait() -> bool:
        return (await service.server.engine.jobs.status()).waiting == 8

    await until(all_wait)
    await service.page("calm")
    await service.server.engine.workers.work()
    answers = await asyncio.gather(*waiting)
    assert {answer.delivery.state for answer in answers} == {DELIVERY_STATE_DELIVERED}


async def test_all_who_wait_for_deliveries_share_one_look(serve: Serve) -> None:
    """Some hundred waiting entries are looked at together, not each by itself."""
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([(f"f{n}", "alice") for n in range(3)])
    engine = service.server.engine
    looks: list[int] = []
    read = engine.jobs._watch._read

    async def counted(jobs: Sequence[Job]) -> list[Delivery]:
        looks.append(len(jobs))
        return await read(jobs)

    engine.jobs._watch._read = counted
    calls = [
        asyncio.ensure_future(
            service.activities.BatchPublishActivities(batch("alice", 100, wait_for_delivery=True))
        )
        for _ in range(3)
    ]

    async def looked() -> bool:
        return sum(looks) > 600

    await until(looked)
    assert len(looks) < sum(looks) / 30
    await engine.workers.work()
    for answer in await asyncio.gather(*calls):
        for result in answer.results:
            assert result.response.activity.actor == "alice"
            assert result.response.delivery.state == DELIVERY_STATE_DELIVERED
            assert result.response.delivery.skipped_cold_count == 3


async def test_a_store_that_is_away_does_not_fail_who_waits(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([(f"f{n}", "alice") for n in range(3)])
    call = asyncio.ensure_future(service.publish("alice", wait=True))

    async def waits() -> bool:
        return (await service.server.engine.jobs.status()).waiting == 1

    await until(waits)
    # Longer than a command may take.
    monkeypatch.setattr("feedsvc.core.transport.ANSWER_SECONDS", 0.3)
    await service.store.execute_command("CLIENT", "PAUSE", 1_000, "ALL")
    await service.store.execute_command("PING")
    await service.server.engine.workers.work()
    assert (await call).delivery.state == DELIVERY_STATE_DELIVERED


async def test_refused_calls_say_when_to_come_again(serve: Serve) -> None:
    service = await serve(max_calls=8, caller_work=1)
    engine = service.server.engine
    hold = asyncio.Event()
    pages = engine.feeds.page

    async def held(*arguments: Any) -> Any:
        await hold.wait()
        return await pages(*arguments)

    engine.feeds.page = held  # type: ignore[method-assign]
    calls = [
        asyncio.ensure_future(service.page("bob")) for _ in range(8 // admission.CALLER_DIVISOR)
    ]

    async def full() -> bool:
        return service.server._admission.calls == len(calls)

    await until(full)
    call = service.feeds.GetFeed(GetFeedRequest(user="bob"))
    refusal = await refused(call)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SERVER_OVERLOADED",
    )
    assert refusal.retry_ms
    trailing = dict(await call.trailing_metadata())
    assert trailing["grpc-retry-pushback-ms"] == str(refusal.retry_ms)
    async with other_caller(service) as channel:
        others = FeedServiceStub(channel)
        again = asyncio.ensure_future(others.GetFeed(GetFeedRequest(user="carol")))
        hold.set()
        await again
    await asyncio.gather(*calls)
    await service.page("bob")


async def test_a_stopping_server_answers_what_it_has_not_begun(serve: Serve) -> None:
    service = await serve(caller_work=1, drain_seconds=10)
    engine = service.server.engine
    hold = asyncio.Event()
    pages = engine.feeds.page

    async def held(*arguments: Any) -> Any:
        await hold.wait()
        return await pages(*arguments)

    engine.feeds.page = held  # type: ignore[method-assign]
    calls = [asyncio.ensure_future(service.page("bob")) for _ in range(5)]

    async def waiting() -> bool:
        return service.server._admission.calls == 5

    await until(waiting)
    async with other_caller(service) as channel:
        stopping = asyncio.ensure_future(service.server.__aexit__())
        waiting_calls = set(calls)
        while len(waiting_calls) > 1:  # whichever came first has been begun
            _, waiting_calls = await asyncio.wait(
                waiting_calls, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        for call in set(calls) - waiting_calls:
            refusal = await refused(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        later = FeedServiceStub(channel).GetFeed(GetFeedRequest(user="bob"))
        assert (await refused(later)).reason == "DRAINING"
        hold.set()
        await asyncio.gather(*waiting_calls)
        await stopping


@asynccontextmanager
async def serving(port: int, store_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", "serve", "--log-level", "error"),
        *("--port", str(port), "--redis-url", store_url),
        env=os.environ,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def test_restarts_show_clients_unavailable_and_nothing_else(store_url: str) -> None:
    """A client that retries UNAVAILABLE, as gRPC's own policies do, gets over every restart."""
    port, codes, over = free_port(), Counter[str](), asyncio.Event()

    async def ask(call: Callable[[], Awaitable[Any]]) -> None:
        while not over.is_set():
            try:
                await call()
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
                await asyncio.sleep(0.01)  # a backoff

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(3)]
    publish = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
    works = [
        asyncio.ensure_future(ask(call))
        for channel in channels
        for feeds, activities in [(FeedServiceStub(channel), ActivityServiceStub(channel))]
        for call in (
            lambda stub=feeds: stub.GetFeed(GetFeedRequest(user="bob"), timeout=SECONDS),
            lambda stub=feeds: stub.GetFeed(GetFeedRequest(user="bob"), timeout=SECONDS),
            lambda stub=activities: stub.PublishActivity(publish, timeout=SECONDS),
        )
    ]
    try:
        for _ in range(4):
            before = codes["OK"]

            async def served(before: int = before) -> bool:
                return codes["OK"] > before + 50

            async with serving(port, store_url) as process:
                await until(served)
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(SECONDS):
                    assert await process.wait() == 0
    finally:
        over.set()
        await asyncio.gather(*works)
        for channel in channels:
            await channel.close()
    assert set(codes) == {"OK", "UNAVAILABLE"}
