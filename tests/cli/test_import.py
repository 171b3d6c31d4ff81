# ruff: noqa: ASYNC240 - a test may wait for the file system
"""``feedsvc import`` with a server."""

import asyncio
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from feedsvc.config import Limits
from tests.serving import Serve, Service, wait_until

from .conftest import Feedsvc, ended


def follow(follower: str, followee: str) -> dict[str, Any]:
    return {"follow": {"follower": follower, "followee": followee}}


def activity(actor: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"activity": {"actor": actor, "verb": "post", "content": content} | fields}


def lines(*rows: dict[str, Any] | str) -> bytes:
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    return "".join(f"{text}\n" for text in texts).encode()


#: Lines with activities before the follows, two of them identical.
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


async def test_all_follows_and_activities_arrive(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
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
    # The import keeps the order of each actor, not the order between two actors.
    assert sorted(await contents(service, "bob")) == ["again", "again", "first", "to a repo"]
    assert await contents(service, "dave") == ["again", "again", "first"]


async def lasting_data(service: Service) -> dict[bytes, bytes]:
    """Return the store without the records of requests, which it keeps for a while."""
    return {name: value for name, value in (await service.dump()).items() if b"}q:" not in name}


async def test_importing_again_changes_nothing(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
    await feedsvc("import", mixed)
    before = await lasting_data(service)
    (report,) = (await feedsvc("import", mixed, "--json")).json
    assert (report["follows"], report["activities"]) == (0, 0)
    assert (report["deliveries"], report["duplicates"]) == (0, 7)
    assert await lasting_data(service) == before


async def test_importing_a_file_that_grew_adds_its_new_lines(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
    await feedsvc("import", mixed)
    mixed.write_bytes(MIXED + lines(activity("alice", "again"), follow("bob", "carol")))
    (report,) = (await feedsvc("import", mixed, "--json")).json
    assert (report["follows"], report["activities"], report["duplicates"]) == (1, 1, 7)
    assert (await contents(service, "dave")).count("again") == 3


async def test_warm_makes_feeds_warm_before_activities_are_delivered(
    service: Service, feedsvc: Feedsvc, mixed: Path
) -> None:
    (report,) = (await feedsvc("import", mixed, "--json", "--warm")).json
    assert report["warmed"] == len({"alice", "bob", "carol", "dave", "repo:kettle"})
    assert (report["deliveries"], report["skipped_cold"]) == (7, 0)
    verified = await service.verify("bob")
    assert (verified.compared_count, list(verified.differences)) == (4, [])


NARROW = Limits(inline_audience=1, push_chunk=1)


async def test_queued_activities_are_counted_as_queued(serve: Serve, mixed: Path) -> None:
    service = await serve(limits=NARROW, workers=0)
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    (report,) = (await feedsvc("import", mixed, "--json")).json
    # The fourth activity has one follower, so its publish delivers it.
    assert (report["activities"], report["queued"]) == (4, 3)
    assert (report["deliveries"], report["skipped_cold"]) == (0, 1)
    ran = await feedsvc("import", mixed)
    assert ["queued", "3"] in [line.split()[:2] for line in ran.out.splitlines()]


async def test_wait_for_delivery_counts_all_deliveries(serve: Serve, mixed: Path) -> None:
    service = await serve(limits=NARROW, workers=2)
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    arguments = ("import", mixed, "--warm", "--wait-for-delivery", "--json")
    (report,) = (await feedsvc(*arguments)).json
    assert (report["deliveries"], report["skipped_cold"], report["queued"]) == (7, 0, 0)
    assert len(await contents(service, "bob")) == 4
    # Earlier deliveries are not counted again.
    (report,) = (await feedsvc(*arguments)).json
    assert (report["deliveries"], report["duplicates"], report["queued"]) == (0, 7, 0)


async def test_the_import_waits_while_too_many_deliveries_wait(serve: Serve) -> None:
    limits = Limits(inline_audience=1, push_chunk=1, max_jobs=2)
    service = await serve(limits=limits, workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    rows = lines(*(activity("alice", str(number)) for number in range(12)))
    process = await Feedsvc(f"127.0.0.1:{service.server.port}").start("import", "-", "--json")
    importing = asyncio.create_task(ended(process, rows))

    async def full() -> bool:
        return len(await service.outbox("alice")) == 2

    await wait_until(full)
    await serve(limits=limits, workers=4)
    (report,) = (await importing).json
    assert (report["activities"], report["refused"]) == (12, {})
    assert len(await service.outbox("alice")) == 12


async def test_the_activities_of_an_actor_keep_their_order(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path = tmp_path / "rows"
    contents_of = {
        actor: [f"{actor} {number}" for number in range(700)] for actor in ("a", "b", "c")
    }
    path.write_bytes(
        lines(
            *(activity(actor, contents_of[actor][n]) for n in range(700) for actor in contents_of)
        )
    )
    (report,) = (await feedsvc("import", path, "--json")).json
    assert report["activities"] == 2_100
    for actor, expected in contents_of.items():
        pages = [page async for page in service.walk(actor, size=100)]
        imported = [item.activity.activity.content for page in pages for item in page.items]
        assert imported == expected[::-1]


async def test_bad_lines_are_reported_by_number_and_the_import_goes_on(
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
    reports = {line.split(": ")[0]: line for line in ran.err.splitlines()}
    assert set(reports) == {f"{path}:{number}" for number in (1, 4, 6, 7)}
    assert "malformed: not JSON" in reports[f"{path}:1"]
    assert "refused: activity.publish_time: must not be before 1985" in reports[f"{path}:4"]
    assert "(INVALID_FIELD)" in reports[f"{path}:6"]
    assert "colour" in reports[f"{path}:7"]
    assert await contents(service, "bob") == ["fine"]


async def test_only_the_first_bad_lines_are_reported_one_by_one(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("import", "-", stdin=b"rubbish\n" * 1_234)
    reports = ran.err.splitlines()
    assert len(reports) == 21
    assert reports[19].startswith("<stdin>:20: malformed")
    assert reports[20] == "... and 1,214 more lines"
    assert "1,234" in ran.out


async def test_control_characters_of_a_line_do_not_reach_the_terminal(feedsvc: Feedsvc) -> None:
    line = lines(activity("alice", "x", **{"\x1b[31m": 1}))
    ran = await feedsvc("import", "-", stdin=line)
    assert "malformed" in ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("content", [MIXED, gzip.compress(MIXED)], ids=["plain", "gzip"])
async def test_standard_input_may_be_plain_or_gzip(
    service: Service, feedsvc: Feedsvc, content: bytes
) -> None:
    (report,) = (await feedsvc("import", "-", "--json", stdin=content)).json
    assert (report["follows"], report["activities"]) == (3, 4)
    assert await contents(service, "dave") == ["again", "again", "first"]


async def test_follows_of_all_files_come_before_activities_of_any(
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


async def test_batches_of_large_activities_are_not_refused(
    service: Service, feedsvc: Feedsvc
) -> None:
    rows = lines(*(activity("alice", f"{n} " + "x" * 16_000) for n in range(600)))
    (report,) = (await feedsvc("import", "-", "--json", stdin=rows)).json
    assert (report["activities"], report["refused"]) == (600, {})


async def test_a_restart_of_the_server_loses_no_activity(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(lines(*(activity(f"user {n % 50}", str(n)) for n in range(6_000))))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = await serve(port=port)
    process = await Feedsvc(f"127.0.0.1:{port}").start("import", path, "--json")
    importing = asyncio.create_task(ended(process))

    async def has_begun() -> bool:
        return bool((await first.page("user 0", size=1)).items)

    await wait_until(has_begun)
    await first.stop()
    second = await serve(port=port)
    ran = await importing
    assert (ran.code, ran.err) == (0, "")
    (report,) = ran.json
    assert report["refused"] == {}
    # An activity that was published without an answer is a duplicate when it is sent again.
    assert report["activities"] + report["duplicates"] == 6_000
    lengths = [len(await second.outbox(f"user {number}", page_size=100)) for number in range(50)]
    assert lengths == [120] * 50


async def test_a_missing_server_is_reported_at_once(feedsvc: Feedsvc, mixed: Path) -> None:
    ran = await feedsvc("import", mixed, "--server", "127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: no server answers at 127.0.0.1:1")
    assert ran.err.count("\n") == 1


async def test_the_result_is_printed_as_a_table(feedsvc: Feedsvc, mixed: Path) -> None:
    ran = await feedsvc("import", mixed)
    assert [line.split()[:2] for line in ran.out.splitlines()[:2]] == [
        ["follows", "3"],
        ["activities", "4"],
    ]
    assert ran.err == ""
