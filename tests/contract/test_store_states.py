"""What works in each state of the store: docs/operations.md says so, and this holds it to that."""

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
from tests.serving import Service, refusal_of, until

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
WRITING = ("ActivityService", "FollowService", "SubscriptionService")
Calls = dict[str, Callable[[], Awaitable[object]]]


def table() -> dict[str, dict[str, str]]:
    """By state, what the documentation says of each call."""
    lines = DOCS.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| call |"))
    rows = [re.split(r" *\| *", line.strip("| ")) for line in lines[start:]]
    head, _, *body = rows[: next(n for n, row in enumerate(rows) if len(row) < 2)]
    return {
        state: {row[0]: row[column] for row in body} for column, state in enumerate(head) if column
    }


def calls(service: Service, posted: list[str]) -> Calls:
    """One of each kind; none needs another."""

    async def subscribed() -> None:
        stream = await service.subscribe("erin")
        await stream.message()
        await stream.close()

    return {
        "PublishActivity": lambda: service.post("alice"),
        "DeleteActivity": lambda: service.delete(posted[0], "alice"),
        "Follow": lambda: service.follow("bob", "carol"),
        "Unfollow": lambda: service.unfollow("dave", "alice"),
        "GetFeed, warm": lambda: service.page("bob"),
        "GetFeed, cold": lambda: service.page("cold"),
        "ListActivities": lambda: service.outbox("alice"),
        "GetActivity": lambda: service.activities.GetActivity(GetActivityRequest(id=posted[1])),
        "ListFollowing": lambda: service.following("bob"),
        "ListFollowers": lambda: service.followers("alice"),
        "GetFollowCounts": lambda: service.counts("alice"),
        "SubscribeFeed": subscribed,
        "GetFeedStats": lambda: service.stats("bob"),
        "VerifyFeed": lambda: service.verify("bob"),
        "GetFanoutStatus": lambda: service.admin.GetFanoutStatus(GetFanoutStatusRequest()),
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
    """Which services serve; by their short names, the server by none."""
    stub = health_pb2_grpc.HealthStub(service.channel)
    found = {}
    for name in ("", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        found[name.rpartition(".")[2]] = answer.status == health_pb2.HealthCheckResponse.SERVING
    return found


async def until_health(service: Service, *, reads: bool, writes: bool) -> None:
    names = ["", *(name.rpartition(".")[2] for name in SERVICES)]
    expected = {name: writes if name in WRITING else reads for name in names}

    async def told() -> bool:
        return await health(service) == expected

    await until(told)


@asynccontextmanager
async def standing(folder: Path, *options: str) -> AsyncIterator[tuple[Node, Service, list[str]]]:
    """A server on a store of its own with a little in it."""
    node = Node(folder / "store", "--appendonly", "yes", *options)
    await node.start()
    service = await Service.start(node.url, None, checkpoint_seconds=0.1)
    try:
        for follower in ("bob", "cold", "dave"):
            await service.follow(follower, "alice")
        posted = await service.posts("alice", 3)
        await service.warm("bob")
        yield node, service, posted
    finally:
        await service.stop()
        await node.stop()


async def enter(state: str, node: Node) -> None:
    """Brings a store into a state, in which it stays."""
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
            for number in range(10_000):  # it looks at its clients each 1,024 commands
                pipeline.rpush("list", number)
            await pipeline.execute()
            await node.redis.config_set("appendfsync", "always")
            node.process.kill()
            node.process.launch()
        case "failing over":
            await node.redis.replicaof("127.0.0.1", 1)


@pytest.mark.parametrize("state", [one for one in table() if one != "ready"])
async def test_calls_answer_as_documented(tmp_path: Path, state: str) -> None:
    # One command loaded takes it a millisecond, once it is started anew.
    options = ("--key-load-delay", "1000") if state == "loading" else ()
    async with standing(tmp_path, *options) as (node, service, posted):
        await until_health(service, reads=True, writes=True)
        expected = {call: what.replace("late", "yes") for call, what in table()[state].items()}
        await enter(state, node)
        if state not in ("slow", "loading"):
            reads = state in ("full", "read-only")
            await until_health(service, reads=reads, writes=False)
        wanted = {name: call for name, call in calls(service, posted).items() if name in expected}
        assert wanted.keys() == expected.keys()
        found = await asyncio.gather(*map(outcome, wanted.values()))
        assert dict(zip(wanted, found, strict=True)) == expected


@pytest.mark.parametrize("state", ["full", "read-only", "failing over", "gone"])
async def test_all_is_well_again(tmp_path: Path, state: str) -> None:
    """And health says so; what happened is logged once."""
    async with standing(tmp_path) as (node, service, posted):
        await enter(state, node)
        reads = state in ("full", "read-only")
        await until_health(service, reads=reads, writes=False)
        if state == "gone":
            await node.start()
        else:
            await node.redis.config_set("maxmemory", 0)
            await node.redis.config_set("min-replicas-to-write", 0)
            await node.promote()
        await until_health(service, reads=True, writes=True)
        for name, call in calls(service, posted).items():
            assert await outcome(call) == "yes", name


async def test_health_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "feedsvc")
    async with standing(tmp_path) as (node, service, _):
        await enter("full", node)
        await until_health(service, reads=True, writes=False)
        for _ in range(5):
            assert await outcome(lambda: service.post("alice")) == "no"
        await node.redis.config_set("maxmemory", 0)
        await until_health(service, reads=True, writes=True)
    told = [
        one.getMessage().partition(" (")[0]
        for one in caplog.records
        if one.name.endswith(("core.store", "core.health"))
    ]
    assert told == ["the store refuses writes", "the store is ready"]


async def test_looking_costs_no_sync(tmp_path: Path) -> None:
    """Nothing that a look asks is written to the append-only file."""
    async with standing(tmp_path) as (node, service, _):
        heartbeat = service.server._heartbeat

        async def size() -> int:
            return int((await node.redis.info("persistence"))["aof_current_size"])

        await service.at_rest()
        before = await size()
        for _ in range(5):
            assert await heartbeat._store.sibling().examine()
        assert await size() == before
