# ruff: noqa: ASYNC240 - a test may wait for the file system
import asyncio
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from feedsvc.config import Limits
from tests.serving import Serve, Service, until

from .conftest import Feedsvc, ended


def follow(follower: str, followee: str) -> dict[str, Any]:
    return {"follow": {"follower": follower, "followee": followee}}


def activity(actor: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"activity": {"actor": actor, "verb": "post", "content": content} | fields}


def lines(*rows: dict[str, Any] | str) -> bytes:
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    return "".join(f"{text}\n" for text in texts).encode()


#: Activities stand before the follows, and two lines are identical.
MIXED = lines(
    activity("alice", "first"),
    activity("alice", "again"),
    activity("alice", "again"),
    activity("carol", "to a repo", to=["repo:kettle"], externalId="given"),
    follow("bob", "alice"),
    follow("bob", "repo:kettle"),
    follow("dave", "alice"),
)


async def contents(service: Service, user: str) -> list[str]:
    page = await service.page(user, size=100)
    return [item.activity.activity.content for item in page.items]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(MIXED)
    return path


async def test_everything_arrives(service: Service, feedsvc: Feedsvc, mixed: Path) -> None:
    ran = await feedsvc("import", mixed, "--json")
    (report,) = ran.json
    seconds = report.pop("seconds")
    assert 0 < seconds < 10
    assert report == {
        "follows": 3,
        "activities": 4,
        "deliveries": 0,
        "skipped_cold": 7,
        "pulled": 0,
        "queued": 0,
        "duplicates": 0,
        "refused": {},
        "malformed": 0,
    }
    assert (ran.code, ran.err) == (0, "")
    # Of two actors, whose order among each other is not kept.
    assert sorted(await contents(service, "bob")) == ["again", "again", "first", "to a repo"]
    assert await contents(service, "dave") == ["again", "again", "first"]


async def lasting(service: Service) -> dict[bytes, bytes]:
    """What the store holds, but for records of requests, which are kept for a while."""
    return {name: value for name, value in (await service.dump()).items() if b"}q:" not in name}


async def test_importing_again_changes_nothing(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
    await feedsvc("import", mixed)
    before = await lasting(service)
    (report,) = (await feedsvc("import", mixed, "--json")).json
    assert (report["follows"], report["activities"]) == (0, 0)
    assert (report["deliveries"], report["duplicates"]) == (0, 7)
    assert await lasting(service) == before


async def test_a_file_that_grew_adds_what_is_new(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
    await feedsvc("import", mixed)
    mixed.write_bytes(MIXED + lines(activity("alice", "again"), follow("bob", "carol")))
    (report,) = (await feedsvc("import", mixed, "--json")).json
    assert (report["follows"], report["activities"], report["duplicates"]) == (1, 1, 7)
    assert (await contents(service, "dave")).count("again") == 3


async def test_warm_feeds_are_delivered_to(service: Service, feedsvc: Feedsvc, mixed: Path) -> None:
    (report,) = (await feedsvc("import", mixed, "--json", "--warm")).json
    assert report["warmed"] == len({"alice", "bob", "carol", "dave", "repo:kettle"})
    assert (report["deliveries"], report["skipped_cold"]) == (7, 0)
    verified = await service.verify("bob")
    assert (verified.compared_count, list(verified.differences)) == (4, [])


NARROW = Limits(inline_audience=1, push_chunk=1)


async def test_what_was_only_queued_is_counted_so(serve: Serve, mixed: Path) -> None:
    service = await serve(limits=NARROW, workers=0)
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    (report,) = (await feedsvc("import", mixed, "--json")).json
    assert (report["activities"], report["queued"]) == (4, 3)  # one has a single follower
    assert (report["deliveries"], report["skipped_cold"]) == (0, 1)
    ran = await feedsvc("import", mixed)
    assert ["queued", "3"] in [line.split()[:2] for line in ran.out.splitlines()]


async def test_it_may_wait_for_deliveries(serve: Serve, mixed: Path) -> None:
    service = await serve(limits=NARROW, workers=2)
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    arguments = ("import", mixed, "--warm", "--wait-for-delivery", "--json")
    (report,) = (await feedsvc(*arguments)).json
    assert (report["deliveries"], report["skipped_cold"], report["queued"]) == (7, 0, 0)
    assert len(await contents(service, "bob")) == 4
    # What was delivered before is not counted again.
    (report,) = (await feedsvc(*arguments)).json
    assert (report["deliveries"], report["duplicates"], report["queued"]) == (0, 7, 0)


async def test_it_waits_while_too_much_is_waiting(serve: Serve) -> None:
    limits = Limits(inline_audience=1, push_chunk=1, max_jobs=2)
    service = await serve(limits=limits, workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    rows = lines(*(activity("alice", str(number)) for number in range(12)))
    process = await Feedsvc(f"127.0.0.1:{service.server.port}").start("import", "-", "--json")
    importing = asyncio.create_task(ended(process, rows))

    async def full() -> bool:
        return len(await service.outbox("alice")) == 2

    await until(full)
    await serve(limits=limits, workers=4)
    (report,) = (await importing).json
    assert (report["activities"], report["refused"]) == (12, {})
    assert len(await service.outbox("alice")) == 12


async def test_an_actor_keeps_its_order(service: Service, feedsvc: Feedsvc, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    said = {actor: [f"{actor} {number}" for number in range(700)] for actor in ("a", "b", "c")}
    path.write_bytes(
        lines(*(activity(actor, said[actor][n]) for n in range(700) for actor in said))
    )
    (report,) = (await feedsvc("import", path, "--json")).json
    assert report["activities"] == 2_100
    for actor, expected in said.items():
        pages = [page async for page in service.walk(actor, size=100)]
        found = [item.activity.activity.content for page in pages for item in page.items]
        assert found == expected[::-1]


async def test_bad_lines_are_told_by_number_and_stop_nothing(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(
        lines(
            "rubbish",
            follow("bob", "alice"),
            activity("alice", "fine"),
            activity("alice", "too old", publishTime="1970-01-01T00:00:00Z"),
            "",
            follow("bob", "bob"),
            activity("alice", "odd", colour="red"),
        )
    )
    ran = await feedsvc("import", path, "--json")
    (report,) = ran.json
    assert ran.code == 0
    assert (report["malformed"], report["refused"]) == (2, {"INVALID_FIELD": 2})
    assert (report["follows"], report["activities"]) == (1, 1)
    told = {line.split(": ")[0]: line for line in ran.err.splitlines()}
    assert set(told) == {f"{path}:{number}" for number in (1, 4, 6, 7)}
    assert "malformed: not JSON" in told[f"{path}:1"]
    assert "refused: activity.publish_time: must not be before 1985" in told[f"{path}:4"]
    assert "(INVALID_FIELD)" in told[f"{path}:6"]
    assert "colour" in told[f"{path}:7"]
    assert await contents(service, "bob") == ["fine"]


async def test_only_the_first_complaints_are_told(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("import", "-", stdin=b"rubbish\n" * 1_234)
    told = ran.err.splitlines()
    assert len(told) == 21
    assert told[19].startswith("<stdin>:20: malformed")
    assert told[20] == "... and 1,214 more lines"
    assert "1,234" in ran.out


async def test_what_is_in_a_line_cannot_reach_the_terminal(feedsvc: Feedsvc) -> None:
    line = lines(activity("alice", "x", **{"\x1b[31m": 1}))
    ran = await feedsvc("import", "-", stdin=line)
    assert "malformed" in ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("content", [MIXED, gzip.compress(MIXED)], ids=["plain", "gzip"])
async def test_standard_input_may_mix_both(
    service: Service, feedsvc: Feedsvc, content: bytes
) -> None:
    (report,) = (await feedsvc("import", "-", "--json", stdin=content)).json
    assert (report["follows"], report["activities"]) == (3, 4)
    assert await contents(service, "dave") == ["again", "again", "first"]


async def test_several_files_are_one_import(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    activities, follows = tmp_path / "activities.gz", tmp_path / "follows.gz"
    activities.write_bytes(
        gzip.compress(b"1 2 1341100972 RT\n1 2 1341100972 RE\n1 3 1341100973 MT")
    )
    follows.write_bytes(gzip.compress(b"7\t1\ts\n8\t1\tb\n8\t8\ti\n"))
    ran = await feedsvc("import", "--preset", "higgs", "--warm", "--json", activities, follows)
    (report,) = ran.json
    assert (report["follows"], report["activities"], report["deliveries"]) == (2, 3, 6)
    assert report["refused"] == {"INVALID_FIELD": 1}
    page = await service.page("7")
    assert {
        (item.activity.activity.verb, item.activity.activity.object.id) for item in page.items
    } == {
        ("mention", "3"),
        ("reply", "2"),
        ("share", "2"),
    }


async def test_github_events_reach_the_followers_of_the_repository(
    service: Service, feedsvc: Feedsvc
) -> None:
    await service.follow("bob", "repo:kettle")
    event = {
        "id": "5",
        "actor": "alice",
        "verb": "Push",
        "object": "ref:main",
        "target": "repo:kettle",
        "time": "2015-01-01T00:00:24Z",
        "count": 3,
    }
    await feedsvc("import", "--preset", "gharchive", "-", stdin=lines(event))
    ((item,)) = (await service.page("bob")).items
    assert (item.activity.activity.external_id, item.activity.activity.extra["count"]) == ("5", 3)
    assert list(item.via) == ["repo:kettle"]


async def test_large_activities_fit_into_batches(service: Service, feedsvc: Feedsvc) -> None:
    rows = lines(*(activity("alice", f"{n} " + "x" * 16_000) for n in range(600)))
    (report,) = (await feedsvc("import", "-", "--json", stdin=rows)).json
    assert (report["activities"], report["refused"]) == (600, {})


async def test_a_server_that_goes_and_comes_back_loses_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(lines(*(activity(f"user {n % 50}", str(n)) for n in range(6_000))))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = await serve(port=port)
    process = await Feedsvc(f"127.0.0.1:{port}").start("import", path, "--json")
    importing = asyncio.create_task(ended(process))

    async def begun() -> bool:
        return bool((await first.page("user 0", size=1)).items)

    await until(begun)
    await first.stop()
    second = await serve(port=port)
    ran = await importing
    assert (ran.code, ran.err) == (0, "")
    (report,) = ran.json
    assert report["refused"] == {}
    # What was published, but not answered, is a duplicate when it is sent again.
    assert report["activities"] + report["duplicates"] == 6_000
    found = [len(await service_outbox(second, f"user {number}")) for number in range(50)]
    assert found == [120] * 50


async def service_outbox(service: Service, entity: str) -> list[str]:
    return await service.outbox(entity, page_size=100)


async def test_no_server_is_found_out_at_once(feedsvc: Feedsvc, mixed: Path) -> None:
    ran = await feedsvc("import", mixed, "--server", "127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: no server answers at 127.0.0.1:1")
    assert ran.err.count("\n") == 1


async def test_the_result_is_readable(feedsvc: Feedsvc, mixed: Path) -> None:
    ran = await feedsvc("import", mixed)
    assert [line.split()[:2] for line in ran.out.splitlines()[:2]] == [
        ["follows", "3"],
        ["activities", "4"],
    ]
    assert ran.err == ""
