"""A caller does not stop others: turns, shared waits, bounds, and the stop of a server."""

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
from activityfeed.admin.v1.admin_service_pb2 import (
    SERVER_STATE_DRAINING,
    SERVER_STATE_SERVING,
    GetServerStatusRequest,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
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
from tests.serving import TIMEOUT_SECONDS, Serve, Service, expect_refusal, wait_until


@asynccontextmanager
async def other_caller(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    """Open a connection beside the service's own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{service.server.port}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield channel


def batch(actor: str, count: int, **entry: Any) -> BatchPublishActivitiesRequest:
    activity = Activity(actor=actor, verb="post", **entry.pop("activity", {}))
    return BatchPublishActivitiesRequest(
        requests=[PublishActivityRequest(activity=activity, **entry) for _ in range(count)]
    )


async def test_batch_is_published_a_few_entries_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries are not all decoded at once, and commands of other callers go in between."""
    activities = service.server.engine.activities
    publish, running, most_running = activities.publish, 0, 0
    no_more_begin = asyncio.Event()

    async def count_and_publish(*arguments: Any) -> Any:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        await no_more_begin.wait()
        try:
            return await publish(*arguments)
        finally:
            running -= 1

    async def wait_until_no_more_begin() -> None:
        begun = -1
        while begun < most_running or not most_running:
            begun = most_running
            for _ in range(500):  # turns of the loop, in which further entries would begin
                await asyncio.sleep(0)
        no_more_begin.set()

    monkeypatch.setattr(activities, "publish", count_and_publish)
    answer, _ = await asyncio.gather(
        service.activities.BatchPublishActivities(batch("alice", 500)), wait_until_no_more_begin()
    )
    assert all(result.HasField("response") for result in answer.results)
    assert most_running == ENTRIES_AT_ONCE
    ids = [result.response.activity.id for result in answer.results]
    assert ids == sorted(set(ids))
    assert await service.outbox("alice") == ids[::-1]


async def test_event_loop_turns_between_any_two_checks_of_entries(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns whichever caller sent the entries."""
    loop = asyncio.get_running_loop()
    turns = 0
    turns_of_checks: list[int] = []
    check = validation.check

    def count_turn() -> None:
        nonlocal turns
        turns += 1
        if counting:
            loop.call_soon(count_turn)

    def note_and_check(request: Any) -> None:
        if isinstance(request, PublishActivityRequest):
            turns_of_checks.append(turns)
        check(request)

    monkeypatch.setattr(validation, "check", note_and_check)
    extra = Struct()
    extra["nulls"] = [None] * 3_000
    counting = True
    loop.call_soon(count_turn)
    try:
        async with other_caller(service) as channel:
            await asyncio.gather(
                *(
                    stub.BatchPublishActivities(
                        batch(f"actor {number}", 50, activity={"extra": extra})
                    )
                    for number, stub in enumerate(
                        [ActivityServiceStub(channel), service.activities]
                    )
                )
            )
    finally:
        counting = False
    assert len(turns_of_checks) == 100
    assert len(set(turns_of_checks)) == 100


async def test_each_connection_has_a_share_of_the_work(serve: Serve) -> None:
    """A server does not read what a connection has beyond its share; others do not wait for it."""
    service = await serve(caller_work=4)
    engine = service.server.engine
    release = asyncio.Event()
    read_page = engine.feeds.page
    started: list[str] = []

    async def hold_greedy(user: str, *arguments: Any) -> Any:
        started.append(user)
        if user.startswith("greedy"):
            await release.wait()
        return await read_page(user, *arguments)

    engine.feeds.page = hold_greedy  # type: ignore[method-assign]
    async with other_caller(service) as channel:
        stub = FeedServiceStub(channel)
        greedy_calls = [
            asyncio.ensure_future(stub.GetFeed(GetFeedRequest(user=f"greedy {number}")))
            for number in range(30)
        ]

        async def has_all_calls() -> bool:
            return service.server._admission.calls == 30

        await wait_until(has_all_calls)
        await service.page("calm")
        assert (len(started), started[-1]) == (5, "calm")
        waiting_calls = [
            call for number, call in enumerate(greedy_calls) if f"greedy {number}" not in started
        ]
        for call in waiting_calls[:10]:
            call.cancel()
        await asyncio.wait(waiting_calls[:10])

        async def are_cancelled() -> bool:
            return service.server._admission.calls == 20

        await wait_until(are_cancelled)
        release.set()
        await asyncio.gather(*(call for call in greedy_calls if call not in waiting_calls[:10]))
    assert len(started) == 21  # a cancelled call never starts


async def test_store_calls_of_a_stream_count_for_its_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls take turns with the store calls of other connections."""
    service = await serve(checkpoint_seconds=0.1)
    engine, callers = service.server.engine, dict[str, object]()
    read_page, warm_feed = engine.feeds.page, engine.feeds.warm

    async def note_page(user: str, *arguments: Any) -> Any:
        callers["call"] = CALLER.get()
        return await read_page(user, *arguments)

    async def note_warm(user: str) -> None:
        callers["stream"] = CALLER.get()
        await warm_feed(user)

    monkeypatch.setattr(engine.feeds, "page", note_page)
    monkeypatch.setattr(engine.feeds, "warm", note_warm)
    await service.page("bob")
    stream = await service.subscribe("bob")
    await stream.read_message()
    await stream.close()
    assert callers["call"] is not None
    assert callers["stream"] == callers["call"]


async def test_publish_that_waits_for_its_delivery_does_not_use_up_the_share(serve: Serve) -> None:
    limits = Limits(inline_audience=1, push_chunk=1)
    service = await serve(caller_work=2, limits=limits, workers=0)
    await service.follow_all([(f"f{number}", "alice") for number in range(3)])
    publishes = [asyncio.ensure_future(service.publish("alice", wait=True)) for _ in range(8)]

    async def all_are_waiting() -> bool:
        return (await service.server.engine.jobs.status()).waiting == 8

    await wait_until(all_are_waiting)
    await service.page("calm")
    await service.server.engine.workers.work()
    answers = await asyncio.gather(*publishes)
    assert {answer.delivery.state for answer in answers} == {DELIVERY_STATE_DELIVERED}


async def test_publishes_that_wait_for_deliveries_share_reads_of_the_progress(serve: Serve) -> None:
    """Hundreds of waiting entries are read together, not each by itself."""
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([(f"f{number}", "alice") for number in range(3)])
    engine = service.server.engine
    read_sizes: list[int] = []
    read = engine.jobs._watch._read

    async def count_and_read(jobs: Sequence[Job]) -> list[Delivery]:
        read_sizes.append(len(jobs))
        return await read(jobs)

    engine.jobs._watch._read = count_and_read
    calls = [
        asyncio.ensure_future(
            service.activities.BatchPublishActivities(batch("alice", 100, wait_for_delivery=True))
        )
        for _ in range(3)
    ]

    async def has_read_often() -> bool:
        return sum(read_sizes) > 600

    await wait_until(has_read_often)
    assert len(read_sizes) < sum(read_sizes) / 30
    await engine.workers.work()
    for answer in await asyncio.gather(*calls):
        for result in answer.results:
            assert result.response.activity.actor == "alice"
            assert result.response.delivery.state == DELIVERY_STATE_DELIVERED
            assert result.response.delivery.skipped_cold_count == 3


async def test_publish_that_waits_for_its_delivery_outlives_a_pause_of_the_store(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([(f"f{number}", "alice") for number in range(3)])
    call = asyncio.ensure_future(service.publish("alice", wait=True))

    async def is_waiting() -> bool:
        return (await service.server.engine.jobs.status()).waiting == 1

    await wait_until(is_waiting)
    # The store pauses for longer than a command may take.
    monkeypatch.setattr("feedsvc.core.transport.ANSWER_SECONDS", 0.3)
    await service.store.execute_command("CLIENT", "PAUSE", 1_000, "ALL")
    await service.store.execute_command("PING")
    await service.server.engine.workers.work()
    assert (await call).delivery.state == DELIVERY_STATE_DELIVERED


def hold_pages(service: Service) -> asyncio.Event:
    """Make every read of a page wait until the returned event is set."""
    engine = service.server.engine
    release = asyncio.Event()
    read_page = engine.feeds.page

    async def hold_page(*arguments: Any) -> Any:
        await release.wait()
        return await read_page(*arguments)

    engine.feeds.page = hold_page  # type: ignore[method-assign]
    return release


async def test_overloaded_server_says_when_to_try_again(serve: Serve) -> None:
    service = await serve(max_calls=8, caller_work=1)
    release = hold_pages(service)
    calls = [
        asyncio.ensure_future(service.page("bob")) for _ in range(8 // admission.CALLER_DIVISOR)
    ]

    async def is_full() -> bool:
        return service.server._admission.calls == len(calls)

    await wait_until(is_full)
    call = service.feeds.GetFeed(GetFeedRequest(user="bob"))
    refusal = await expect_refusal(call)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SERVER_OVERLOADED",
    )
    assert refusal.retry_ms
    trailing = dict(await call.trailing_metadata())
    assert trailing["grpc-retry-pushback-ms"] == str(refusal.retry_ms)
    async with other_caller(service) as channel:
        other_stub = FeedServiceStub(channel)
        other_call = asyncio.ensure_future(other_stub.GetFeed(GetFeedRequest(user="carol")))
        release.set()
        await other_call
    await asyncio.gather(*calls)
    await service.page("bob")


async def test_stopping_server_refuses_calls_that_have_not_started(serve: Serve) -> None:
    service = await serve(caller_work=1, drain_seconds=10)
    release = hold_pages(service)
    calls = [asyncio.ensure_future(service.page("bob")) for _ in range(5)]

    async def are_waiting() -> bool:
        return service.server._admission.calls == 5

    await wait_until(are_waiting)
    async with other_caller(service) as channel:
        stopping = asyncio.ensure_future(service.server.__aexit__())
        waiting_calls = set(calls)
        while len(waiting_calls) > 1:  # the server has started the call that came first
            _, waiting_calls = await asyncio.wait(
                waiting_calls, timeout=TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        for call in set(calls) - waiting_calls:
            refusal = await expect_refusal(call)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        later_call = FeedServiceStub(channel).GetFeed(GetFeedRequest(user="bob"))
        assert (await expect_refusal(later_call)).reason == "DRAINING"
        release.set()
        await asyncio.gather(*waiting_calls)
        await stopping


async def test_full_or_stopping_server_reports_its_state(serve: Serve) -> None:
    service = await serve(max_calls=8, drain_seconds=10)
    release = hold_pages(service)
    async with other_caller(service) as second_channel, other_caller(service) as operator:
        stub, admin = FeedServiceStub(second_channel), AdminServiceStub(operator)
        calls = [asyncio.ensure_future(service.page("bob")) for _ in range(4)]
        calls += [asyncio.ensure_future(stub.GetFeed(GetFeedRequest(user="bob"))) for _ in range(4)]

        async def is_full() -> bool:
            return service.server._admission.calls == 8

        await wait_until(is_full)
        refused = FeedServiceStub(operator).GetFeed(GetFeedRequest(user="bob"))
        assert (await expect_refusal(refused)).reason == "SERVER_OVERLOADED"
        status = await admin.GetServerStatus(GetServerStatusRequest())
        assert (status.call_count, status.max_call_count) == (9, 8)
        assert status.state == SERVER_STATE_SERVING
        stopping = asyncio.ensure_future(service.server.__aexit__())

        async def is_draining() -> bool:
            status = await admin.GetServerStatus(GetServerStatusRequest())
            return bool(status.state == SERVER_STATE_DRAINING)

        await wait_until(is_draining)
        release.set()
        await asyncio.gather(*calls)
        await stopping


@asynccontextmanager
async def server_process(port: int, store_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server process."""
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


async def test_restarts_show_clients_only_unavailable(store_url: str) -> None:
    """A client that retries UNAVAILABLE, as gRPC's own policies do, gets over every restart."""
    port, codes, stop = free_port(), Counter[str](), asyncio.Event()

    async def call_until_stopped(call: Callable[[], Awaitable[Any]]) -> None:
        while not stop.is_set():
            try:
                await call()
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
                await asyncio.sleep(0.01)  # a backoff

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(3)]
    publish = PublishActivityRequest(activity=Activity(actor="alice", verb="post"))
    callers = [
        asyncio.ensure_future(call_until_stopped(call))
        for channel in channels
        for feeds, activities in [(FeedServiceStub(channel), ActivityServiceStub(channel))]
        for call in (
            lambda stub=feeds: stub.GetFeed(GetFeedRequest(user="bob"), timeout=TIMEOUT_SECONDS),
            lambda stub=feeds: stub.GetFeed(GetFeedRequest(user="bob"), timeout=TIMEOUT_SECONDS),
            lambda stub=activities: stub.PublishActivity(publish, timeout=TIMEOUT_SECONDS),
        )
    ]
    try:
        for _ in range(4):
            count_before = codes["OK"]

            async def has_served(count_before: int = count_before) -> bool:
                return codes["OK"] > count_before + 50

            async with server_process(port, store_url) as process:
                await wait_until(has_served)
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    assert await process.wait() == 0
    finally:
        stop.set()
        await asyncio.gather(*callers)
        for channel in channels:
            await channel.close()
    assert set(codes) == {"OK", "UNAVAILABLE"}
