"""``feedsvc fanout``."""

import asyncio
import json
import signal

import pytest

from feedsvc.config import Limits
from tests.dead_letters import store_dead_letters
from tests.serving import Serve, Service

from .conftest import Feedsvc, ended


@pytest.fixture
async def service(serve: Serve) -> Service:
    """A service without workers, so that queued jobs keep waiting."""
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    return service


async def test_the_status_is_printed_as_a_table(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("fanout")
    assert (ran.code, ran.err) == (0, "")
    rows = {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in ran.out.splitlines()}
    assert {name: row[0] for name, row in rows.items()} == {
        "waiting": "0",
        "running": "0",
        "inline": "0",
        "rate": "0/s",
        "lag": "0.0",
        "dead letters": "0",
    }
    posted = await service.post("alice", to=["repo:x"])
    await store_dead_letters(service, 3)
    ran = await feedsvc("fanout")
    assert f"deliver  {posted} to followers of alice, repo:x" in ran.out
    rows = {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in ran.out.splitlines()}
    assert (rows["waiting"][0], rows["dead letters"][0]) == ("1", "3")


async def test_the_status_as_json_has_its_zeros(service: Service, feedsvc: Feedsvc) -> None:
    (status,) = (await feedsvc("fanout", "--json")).json
    assert status == {
        "openCount": "0",
        "waitingCount": "0",
        "runningCount": "0",
        "inlineCount": "0",
        "lag": "0s",
        "followersPerSecond": 0.0,
        "deadLetterCount": "0",
    }
    posted = await service.post("alice")
    (status,) = (await feedsvc("fanout", "--json")).json
    assert (status["openCount"], status["waitingCount"]) == ("1", "1")
    assert (status["oldest"]["kind"], status["oldest"]["activityId"]) == (
        "JOB_KIND_DELIVER",
        posted,
    )


async def test_ctrl_c_ends_watching(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("fanout", "--watch", "--json")
    assert process.stdout is not None
    first = json.loads(await process.stdout.readline())
    await service.post("alice")
    second = json.loads(await process.stdout.readline())
    assert (first["openCount"], second["openCount"]) == ("0", "1")
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (ran.code, ran.err) == (130, "")


async def test_watching_prints_the_status_repeatedly(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("fanout", "--watch")
    assert process.stdout is not None
    heads = 0
    async with asyncio.timeout(10):
        while heads < 2:
            heads += (await process.stdout.readline()).startswith(b"waiting")
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (ran.code, ran.err) == (130, "")
    assert "\x1b" not in ran.out
