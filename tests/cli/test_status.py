"""``feedsvc status``."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from activityfeed.admin.v1 import admin_service_pb2 as pb
from activityfeed.admin.v1.admin_service_pb2_grpc import (
    AdminServiceServicer,
    add_AdminServiceServicer_to_server,
)
from google.protobuf.duration_pb2 import Duration

from feedsvc.cli import status
from feedsvc.core import health
from feedsvc.embedded import EmbeddedStore, find_server
from feedsvc.server_status import VERSION
from tests.dead_letters import store_dead_letters
from tests.serving import Service, wait_until

from .conftest import Feedsvc, ended

AGE = r"(just now|\d+ (s|min) ago)"


@pytest.fixture
async def own_store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """Start a store that the test may stop, and that keeps its data."""
    async with EmbeddedStore(tmp_path) as store:
        yield store


@pytest.fixture
async def service(own_store: EmbeddedStore) -> AsyncIterator[Service]:
    service = await Service.start(own_store.url)
    try:
        yield service
    finally:
        await service.stop()


def check_lines(text: str, *patterns: str) -> None:
    """Check that each line matches its pattern, in which <age> and <size> stand for any."""
    lines = text.splitlines()
    assert len(lines) == len(patterns), text
    for line, pattern in zip(lines, patterns, strict=True):
        regex = re.escape(pattern).replace("<age>", AGE).replace("<size>", r"[\d.]+ [kMG]B")
        assert re.fullmatch(regex, line), (line, pattern)


async def test_status_of_a_healthy_server(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("status")
    assert (ran.code, ran.err) == (0, "")
    server = find_server()
    product = f"{server.name.capitalize()} {'.'.join(map(str, server.version))}"
    host = (await service.server_status()).host_name
    check_lines(
        ran.out,
        f"server       serving at {feedsvc.server}: feedsvc {VERSION} on {host}, started <age>",
        f"store        ready: {product}, started <age>",
        "memory       <size>, no limit",
        "persistence  append-only file, synced always",
        "eviction     none (noeviction)",
        f"keys         {await service.store.dbsize()} in 16 shards, 0 replicas",
        "deliveries   0 queued, lag 0.0 s, 0 dead letters",
        "streams      0 of 20,000",
        "calls        1 of 4,096",
    )


async def test_dead_letters_need_the_operator(service: Service, feedsvc: Feedsvc) -> None:
    await store_dead_letters(service, 3)
    ran = await feedsvc("status")
    assert (ran.code, ran.err) == (1, "")
    assert (
        "deliveries   0 queued, lag 0.0 s, 3 dead letters\n"
        "             -> `feedsvc dead-letters` lists the dead letters and replays them\n"
    ) in ran.out


async def test_gone_store_leaves_what_the_server_knows(
    service: Service,
    feedsvc: Feedsvc,
    own_store: EmbeddedStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    await service.server_status()
    await own_store.stop()

    async def is_gone() -> bool:
        return (await service.server_status()).store.condition == pb.STORE_CONDITION_GONE

    await wait_until(is_gone)
    ran = await feedsvc("status")
    assert (ran.code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    assert re.match(
        rf"store        does not answer, nothing is served, since {AGE}: .*, below as of {AGE}",
        lines[1],
    )
    assert lines[2] == (
        "             -> see that the store runs, and that the server's machine reaches it"
    )
    assert "deliveries   unknown while the store does not answer" in lines
    ran = await feedsvc("status", "--json")
    assert ran.code == 1
    (report,) = ran.json
    assert report["server"]["store"]["condition"] == "STORE_CONDITION_GONE"
    assert report["deliveries"] is None
    (problem,) = report["problems"]
    assert problem["subject"] == "store"


async def test_status_as_json_has_its_zeros(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("status", "--json")
    (report,) = ran.json
    assert ran.code == 0
    assert report["problems"] == []
    assert report["server"]["streamCount"] == "0"
    assert report["server"]["store"]["persistence"] == "STORE_PERSISTENCE_SYNCED_ALWAYS"
    assert report["deliveries"]["deadLetterCount"] == "0"


async def test_ctrl_c_ends_watching_the_status(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("status", "--watch", "--json")
    assert process.stdout is not None
    first = json.loads(await process.stdout.readline())
    stream = await service.subscribe("bob")
    second = first
    async with asyncio.timeout(20):
        while second["server"]["streamCount"] != "1":
            second = json.loads(await process.stdout.readline())
    await stream.close()
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (first["server"]["streamCount"], ran.code, ran.err) == ("0", 130, "")


async def test_missing_server_is_named() -> None:
    ran = await Feedsvc("127.0.0.1:1")("status")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: no server answers at 127.0.0.1:1: start one with `feedsvc serve`, or name another "
        "with --server\n"
    )


async def test_older_server_is_named() -> None:
    server = grpc.aio.server()
    add_AdminServiceServicer_to_server(AdminServiceServicer(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        ran = await Feedsvc(address)("status")
    finally:
        await server.stop(None)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"Error: the server at {address} is older than this command and does not report its state: "
        "update the server, or use `feedsvc fanout`\n"
    )


def problems(
    deliveries: pb.GetFanoutStatusResponse | None = None, **store: Any
) -> dict[str, tuple[str, str]]:
    """Return the text and the remedy of each line that needs the operator, by its subject."""
    healthy = pb.GetServerStatusResponse(
        state=pb.SERVER_STATE_SERVING, max_stream_count=10, max_call_count=10, worker_count=0
    )
    healthy.store.read_time.GetCurrentTime()
    healthy.store.condition_time.GetCurrentTime()
    healthy.store.MergeFrom(
        pb.StoreStatus(
            condition=pb.STORE_CONDITION_READY,
            persistence=pb.STORE_PERSISTENCE_SYNCED_ALWAYS,
            eviction_policy="noeviction",
        )
    )
    healthy.store.MergeFrom(pb.StoreStatus(**store))
    lines = status._lines("host:1", healthy, deliveries or pb.GetFanoutStatusResponse())
    return {line.subject: (line.text, line.remedy) for line in lines if line.remedy}


def test_every_condition_and_persistence_has_its_words() -> None:
    assert status.CONDITIONS.keys() == set(pb.StoreCondition.values()) - {0}
    assert status.PERSISTENCE.keys() == set(pb.StorePersistence.values())
    for condition, (_, remedy) in status.CONDITIONS.items():
        reported = problems(condition=condition)
        assert reported.keys() == ({"store"} if remedy else set())
        assert bool(remedy) == (condition != pb.STORE_CONDITION_READY)


def test_full_memory_needs_the_operator() -> None:
    assert problems(used_memory_bytes=89, max_memory_bytes=100) == {}
    assert problems(used_memory_bytes=90_000, max_memory_bytes=100_000) == {
        "memory": (
            "90.0 kB of 100.0 kB (90%)",
            "give the store more memory: `CONFIG SET maxmemory <bytes>`",
        )
    }


@pytest.mark.parametrize(
    ("persistence", "remedy"),
    [
        (pb.STORE_PERSISTENCE_SYNCED_EVERY_SECOND, None),
        (pb.STORE_PERSISTENCE_NOT_SYNCED, None),
        (
            pb.STORE_PERSISTENCE_SNAPSHOTS,
            "a crash loses the writes since the last one: `CONFIG SET appendonly yes` on the store",
        ),
        (
            pb.STORE_PERSISTENCE_NONE,
            "a crash loses all data: `CONFIG SET appendonly yes` on the store",
        ),
    ],
)
def test_store_without_an_append_only_file_needs_the_operator(
    persistence: "pb.StorePersistence", remedy: str | None
) -> None:
    reported = {subject: words for subject, (_, words) in problems(persistence=persistence).items()}
    assert reported == ({"persistence": remedy} if remedy else {})


def test_store_that_evicts_needs_the_operator() -> None:
    assert problems(eviction_policy="allkeys-lru") == {
        "eviction": (
            "allkeys-lru",
            "feedsvc would lose data: `CONFIG SET maxmemory-policy noeviction` on the store",
        )
    }


@pytest.mark.parametrize(
    ("deliveries", "remedy"),
    [
        ({"open_count": 5, "waiting_count": 4, "running_count": 1}, None),
        (
            {"open_count": 5, "waiting_count": 5},
            "this server has no workers: start `feedsvc worker`",
        ),
        (
            {"open_count": 5, "running_count": 5, "lag": Duration(seconds=61)},
            "`feedsvc fanout` shows the oldest job; start more `feedsvc worker` processes",
        ),
    ],
)
def test_deliveries_that_do_not_keep_up_need_the_operator(
    deliveries: dict[str, Any], remedy: str | None
) -> None:
    reported = problems(pb.GetFanoutStatusResponse(**deliveries))
    assert {subject: words for subject, (_, words) in reported.items()} == (
        {"deliveries": remedy} if remedy else {}
    )


def test_limits_that_are_nearly_reached_need_the_operator() -> None:
    response = pb.GetServerStatusResponse(
        state=pb.SERVER_STATE_DRAINING,
        stream_count=9,
        max_stream_count=10,
        call_count=9,
        max_call_count=10,
    )
    lines = {line.subject: line.remedy for line in status._lines("host:1", response, None)}
    assert lines["server"] == "ask another server, or start this one again"
    assert lines["streams"] == "start another server, or give a greater --max-streams"
    assert lines["calls"] == "start another server, or give a greater --max-calls"
