"""Calls in each state of the store behave as docs/operating.md says."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import GetFanoutStatusRequest
from activityfeed.v1.activity_service_pb2 import GetActivityRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feedsvc.health_status import SERVICES
from tests.nodes import Node
from tests.serving import Service, refusal_of, wait_until

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
WRITING = ("ActivityService", "FollowService", "SubscriptionService")
Calls = dict[str, Callable[[], Awaitable[object]]]


def documented_outcomes() -> dict[str, dict[str, str]]:
    """Return the documented outcome of each call, by state."""
    lines = DOCS.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| call |"))
    rows = [re.split(r" *\| *", line.strip("| ")) for line in lines[start:]]
    header, _, *body = rows[: next(number for number, row in enumerate(rows) if len(row) < 2)]
    return {
        state: {row[0]: row[column] for row in body}
        for column, state in enumerate(header)
        if column
    }


def make_calls(service: Service, activity_ids: list[str]) -> Calls:
    """Return a call of each kind; none depends on another."""

    async def subscribe() -> None:
        stream = await service.subscribe("erin")
        await stream.read_message()
        await stream.close()

    return {
        "PublishActivity": lambda: service.post("alice"),
        "DeleteActivity": lambda: service.delete(activity_ids[0], "alice"),
        "Follow": lambda: service.follow("bob", "carol"),
        "Unfollow": lambda: service.unfollow("dave", "alice"),
        "GetFeed, warm": lambda: service.page("bob"),
        "GetFeed, cold": lambda: service.page("cold"),
        "ListActivities": lambda: service.outbox("alice"),
        "GetActivity": lambda: service.activities.GetActivity(
            GetActivityRequest(id=activity_ids[1])
        ),
        "ListFollowing": lambda: service.following("bob"),
        "ListFollowers": lambda: service.followers("alice"),
        "GetFollowCounts": lambda: service.counts("alice"),
        "SubscribeFeed": subscribe,
        "GetFeedStats": lambda: service.stats("bob"),
        "VerifyFeed": lambda: service.verify("bob"),
        "GetFanoutStatus": lambda: service.admin.GetFanoutStatus(GetFanoutStatusRequest()),
        "GetServerStatus": service.server_status,
    }


async def outcome(call: Callable[[], Awaitable[object]]) -> str:
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "STORE_UNAVAILABLE",
        )
        assert refusal.retry_ms
        return "no"
    return "yes"


async def health(service: Service) -> dict[str, bool]:
    """Return which services serve, by short name; the server itself has an empty name."""
    stub = health_pb2_grpc.HealthStub(service.channel)
    serving = {}
    for name in ("", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        serving[name.rpartition(".")[2]] = answer.status == health_pb2.HealthCheckResponse.SERVING
    return serving


async def until_health(service: Service, *, reads: bool, writes: bool) -> None:
    names = ["", *(name.rpartition(".")[2] for name in SERVICES)]
    expected = {name: writes if name in WRITING else reads for name in names}

    async def is_expected() -> bool:
        return await health(service) == expected

    await wait_until(is_expected)


@asynccontextmanager
async def server_on_own_store(
    folder: Path, *options: str
) -> AsyncIterator[tuple[Node, Service, list[str]]]:
    """Start a server on a store of its own that holds a few activities."""
    node = Node(folder / "store", "--appendonly", "yes", *options)
    await node.start()
    service = await Service.start(node.url, None, checkpoint_seconds=0.1)
    try:
        for follower in ("bob", "cold", "dave"):
            await service.follow(follower, "alice")
        activity_ids = await service.post_many("alice", 3)
        await service.warm("bob")
        yield node, service, activity_ids
    finally:
        await service.stop()
        await node.stop()


async def enter_state(state: str, node: Node) -> None:
    """Bring a store into a state, in which it stays."""
    match state:
        case "full":
            await node.redis.config_set("maxmemory", 1)
        case "read-only":
            await node.redis.config_set("min-replicas-to-write", 1)
        case "slow":
            node.process.pause()
            asyncio.get_running_loop().call_later(1.0, node.process.resume)
        case "gone":
            node.process.kill()
        case "loading":
            pipeline = node.redis.pipeline(transaction=False)
            for number in range(
                10_000
            ):  # a loading store answers clients after every 1,024 commands
                pipeline.rpush("list", number)
            await pipeline.execute()
            await node.redis.config_set("appendfsync", "always")
            node.process.kill()
            node.process.launch()
        case "failing over":
            await node.redis.replicaof("127.0.0.1", 1)


@pytest.mark.parametrize("state", [state for state in documented_outcomes() if state != "ready"])
async def test_calls_behave_as_documented_in_each_state(tmp_path: Path, state: str) -> None:
    # The store takes a millisecond to load each command after its restart.
    options = ("--key-load-delay", "1000") if state == "loading" else ()
    async with server_on_own_store(tmp_path, *options) as (node, service, activity_ids):
        await until_health(service, reads=True, writes=True)
        expected = {
            call: documented.replace("late", "yes")
            for call, documented in documented_outcomes()[state].items()
        }
        await enter_state(state, node)
        if state not in ("slow", "loading"):
            reads = state in ("full", "read-only")
            await until_health(service, reads=reads, writes=False)
        documented_calls = {
            name: call
            for name, call in make_calls(service, activity_ids).items()
            if name in expected
        }
        assert documented_calls.keys() == expected.keys()
        outcomes = await asyncio.gather(*map(outcome, documented_calls.values()))
        assert dict(zip(documented_calls, outcomes, strict=True)) == expected


@pytest.mark.parametrize("state", ["full", "read-only", "failing over", "gone"])
async def test_all_calls_succeed_again_after_each_state(tmp_path: Path, state: str) -> None:
    """Health says so, too."""
    async with server_on_own_store(tmp_path) as (node, service, activity_ids):
        await enter_state(state, node)
        reads = state in ("full", "read-only")
        await until_health(service, reads=reads, writes=False)
        if state == "gone":
            await node.start()
        else:
            await node.redis.config_set("maxmemory", 0)
            await node.redis.config_set("min-replicas-to-write", 0)
            await node.promote()
        await until_health(service, reads=True, writes=True)
        for name, call in make_calls(service, activity_ids).items():
            assert await outcome(call) == "yes", name


async def test_change_of_the_stores_state_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "feedsvc")
    async with server_on_own_store(tmp_path) as (node, service, _):
        await enter_state("full", node)
        await until_health(service, reads=True, writes=False)
        for _ in range(5):
            assert await outcome(lambda: service.post("alice")) == "no"
        await node.redis.config_set("maxmemory", 0)
        await until_health(service, reads=True, writes=True)
    messages = [
        record.getMessage().partition(f"127.0.0.1:{node.port} ")[2]
        for record in caplog.records
        if record.name.endswith(("core.store", "core.store_errors", "core.health"))
    ]
    assert [message.partition(" after")[0].partition(":")[0] for message in messages] == [
        "is full",
        "is ready again",
    ]


async def test_health_check_of_the_store_writes_nothing(tmp_path: Path) -> None:
    """The append-only file does not grow."""
    async with server_on_own_store(tmp_path) as (node, service, _):
        heartbeat = service.server._heartbeat

        async def log_size() -> int:
            return int((await node.redis.info("persistence"))["aof_current_size"])

        await service.wait_for_deliveries()
        size_before = await log_size()
        for _ in range(5):
            assert await heartbeat._store.sibling().examine() is None
        assert await log_size() == size_before
