# ruff: noqa: ASYNC240 - a test may wait for the file system
"""``feedsvc import`` with a server."""

import asyncio
import gzip
import json
import os
import signal
import socket
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from feedsvc.cli.exit_statuses import READER_LEFT
from feedsvc.cli.import_command import EXAMPLES
from feedsvc.config import Limits
from tests.serving import Serve, Service, wait_until

from .conftest import Feedsvc, ended

FIELDS_ARE = (
    "write FIELD=COLUMN. The fields are follower, followee, actor, verb, object, object_entity, "
    "object_type, object_name, object_url, target, target_entity, target_type, target_name, "
    "target_url, to, mentions, audience, content, time, external_id, extra and extra.NAME"
)


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
        "rows": 7,
        "rejects": [],
        "damaged_files": {},
        "interrupted": False,
        "error": "",
        "dry_run": False,
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
    assert ran.code == 1
    assert (report["malformed"], report["refused"]) == (2, {"INVALID_FIELD": 2})
    assert (report["follows"], report["activities"], report["rows"]) == (1, 1, 6)
    *complaints, last = ran.err.splitlines()
    assert sorted(complaints) == [
        f"{path}:1: malformed: is not JSON: Expecting value at position 1",
        (
            f"{path}:4: refused: activity.publish_time: must not be before "
            "1985-02-09T22:45:58.204Z (INVALID_FIELD)"
        ),
        f"{path}:6: refused: followee: must be another entity than follower (INVALID_FIELD)",
        f"{path}:7: malformed: activity: has no field colour",
    ]
    assert last == "4 of 6 rows were not imported; --rejects FILE writes them to a file"
    assert sorted(
        f"{reject['file']}:{reject['line']}: {reject['rule']}" for reject in report["rejects"]
    ) == sorted(complaints)
    assert await contents(service, "bob") == ["fine"]


async def test_only_the_first_bad_lines_are_reported_one_by_one(feedsvc: Feedsvc) -> None:
    rows = lines(follow("bob", "alice")) + b"rubbish\n" * 1_234
    ran = await feedsvc("import", "-", stdin=rows)
    reports = ran.err.splitlines()
    assert len(reports) == 22
    assert reports[19].startswith("<stdin>:21: malformed")
    assert reports[20] == "... and 1,214 more rows"
    assert reports[21] == (
        "1,234 of 1,235 rows were not imported; --rejects FILE writes them to a file"
    )
    assert "1,234" in ran.out


async def test_an_import_whose_first_rows_are_all_wrong_does_not_begin(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    good = tmp_path / "good.jsonl"
    good.write_bytes(lines(follow("bob", "alice")))
    ran = await feedsvc("import", good, "-", stdin=b"bob\talice\n" * 1_000)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: <stdin>: none of the first 1,000 rows can be imported, so nothing was imported. "
        "Line 1: is not JSON: Expecting value at position 1. Is the file --format tsv or csv?\n"
    )
    counts = await feedsvc("import", good, "--json")
    assert counts.json[0]["follows"] == 1  # the first import did not make the follow


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
    ran = await feedsvc("import", "--format", "higgs", "--warm", "--json", activities, follows)
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
    await feedsvc("import", "--format", "gharchive", "-", stdin=lines(event))
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


# Files with columns.


STARS = """\
id,user_name,repo,at
1,alice,repo:linux,1769860800
2,bob,repo:linux,17
3,"carol",repo:git,2026-01-31T12:00:00Z
4,,repo:git,1769860800
"""
STAR_OPTIONS = (
    *("--map", "actor=user_name,object=repo,to=repo,time=at"),
    *("--set", "verb=star", "--ignore", "id"),
)


async def test_columns_of_any_names_become_fields(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    await service.follow("bob", "repo:git")
    path = tmp_path / "stars.csv"
    path.write_text(STARS)
    ran = await feedsvc("import", path, *STAR_OPTIONS)
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"{path}:5: malformed: column user_name: is empty, but the row needs its actor",
        (
            f"{path}:3: refused: column at: must not be before 1985-02-09T22:45:58.204Z "
            "(INVALID_FIELD)"
        ),
        "2 of 4 rows were not imported; --rejects FILE writes them to a file",
    ]
    ((item,)) = (await service.page("bob")).items
    star = item.activity.activity
    assert (star.actor, star.verb, star.object.id) == ("carol", "star", "repo:git")
    assert star.publish_time.seconds == 1_769_860_800


async def test_a_corrected_file_of_rejects_can_be_imported_in_the_same_way(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path, rejects = tmp_path / "stars.csv", tmp_path / "rejects.csv"
    path.write_text(STARS)
    ran = await feedsvc("import", path, *STAR_OPTIONS, "--rejects", rejects)
    assert ran.err.splitlines()[-1] == (
        f"2 of 4 rows were not imported; {rejects} has them, and {rejects}.reasons says why"
    )
    assert rejects.read_text() == (
        "id,user_name,repo,at\n4,,repo:git,1769860800\n2,bob,repo:linux,17\n"
    )
    assert (tmp_path / "rejects.csv.reasons").read_text() == (
        "row\tfile\tline\trule\n"
        f"2\t{path}\t5\tmalformed: column user_name: is empty, but the row needs its actor\n"
        f"3\t{path}\t3\trefused: column at: must not be before 1985-02-09T22:45:58.204Z "
        "(INVALID_FIELD)\n"
    )
    corrected = rejects.read_text().replace("4,,", "4,dave,").replace(",17\n", ",1769860817\n")
    rejects.write_text(corrected)
    ran = await feedsvc("import", rejects, *STAR_OPTIONS, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json[0]["activities"], ran.json[0]["duplicates"]) == (2, 0)
    # The corrected rows are in the first file now: its import adds nothing.
    path.write_text(STARS.replace("4,,", "4,dave,").replace(",17\n", ",1769860817\n"))
    ran = await feedsvc("import", path, *STAR_OPTIONS, "--json")
    assert (ran.json[0]["activities"], ran.json[0]["duplicates"]) == (0, 4)


async def test_an_empty_file_does_not_hinder_a_file_of_rejects(tmp_path: Path) -> None:
    empty, path, rejects = tmp_path / "empty.tsv", tmp_path / "rows.csv", tmp_path / "rejects"
    empty.touch()
    path.write_text("follower,followee\nbob\n")
    feedsvc = Feedsvc("127.0.0.1:1")
    ran = await feedsvc("import", empty, path, "--dry-run", "--rejects", rejects)
    assert ran.code == 1
    assert rejects.read_text() == "follower,followee\nbob\n"


async def test_a_row_is_the_same_however_its_cells_are_written(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    csv, tsv = tmp_path / "rows.csv", tmp_path / "rows.tsv"
    csv.write_bytes(b'actor,verb,content\r\nalice,post,"two\nlines, ""quoted"""\r\nbob,post,x\r\n')
    tsv.write_bytes(b'actor\tverb\tcontent\nalice\tpost\ttwo\\nlines, "quoted"\nbob\tpost\tx\n')
    (report,) = (await feedsvc("import", csv, "--json")).json
    assert report["activities"] == 2
    assert await contents(service, "alice") == ['two\nlines, "quoted"']
    (report,) = (await feedsvc("import", tsv, "--json")).json
    assert (report["activities"], report["duplicates"]) == (0, 2)


async def test_a_row_that_is_mapped_otherwise_is_refused_and_not_published_twice(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"actor\tverb\tnote\nalice\tpost\tx\n")
    await feedsvc("import", path, "--ignore", "note")
    ran = await feedsvc("import", path, "--map", "content=note", "--json")
    assert (ran.code, ran.json[0]["refused"]) == (1, {"EXTERNAL_ID_CONFLICT": 1})
    assert await contents(service, "alice") == [""]


async def test_derived_ids_of_each_format_never_change(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    files = {
        "jsonl": '{"activity": {"actor": "a", "verb": "post"}}\n',
        "higgs": "b 2 1341100972 RT\n",
        "tsv": "actor\tverb\nc\tpost\n",
        "csv": 'actor,verb\n"d",post\n',
    }
    for name, text in files.items():
        await feedsvc("import", "--format", name, "-", stdin=text.encode())
    ids = []
    for actor in "abcd":
        ((item,)) = (await service.page(actor)).items
        ids.append(item.activity.activity.external_id)
    assert ids == [
        blake2b(row, digest_size=16).hexdigest()
        for row in (
            b'{"activity": {"actor": "a", "verb": "post"}}',
            b"b 2 1341100972 RT",
            b"c\tpost",
            b"d\tpost",
        )
    ]


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_examples_of_help_can_be_imported(feedsvc: Feedsvc, name: str) -> None:
    ran = await feedsvc("import", "--format", name, "-", "--json", stdin=EXAMPLES[name].encode())
    (report,) = ran.json
    assert (ran.code, ran.err) == (0, "")
    assert report["follows"] + report["activities"] == report["rows"] > 0
    shown = (await feedsvc("import", "--help")).out
    for line in EXAMPLES[name].replace("\t", "<tab>").splitlines():
        assert f"    {line}\n" in shown


# Checks without a server.


async def test_a_dry_run_finds_what_an_import_would_refuse_and_needs_no_server(
    tmp_path: Path,
) -> None:
    path, rejects = tmp_path / "stars.csv", tmp_path / "rejects.csv"
    path.write_text(STARS)
    feedsvc = Feedsvc("127.0.0.1:1")
    ran = await feedsvc("import", path, *STAR_OPTIONS, "--dry-run", "--rejects", rejects)
    assert ran.code == 1
    assert [line.split() for line in ran.out.splitlines()[:2]] == [
        ["follows", "0", "would", "be", "imported"],
        ["activities", "2", "would", "be", "imported"],
    ]
    assert ran.err.splitlines()[-1] == (
        f"2 of 4 rows cannot be imported; {rejects} has them, and {rejects}.reasons says why"
    )
    assert rejects.read_text().count("\n") == 3
    ran = await feedsvc("import", path, *STAR_OPTIONS, "--dry-run", "--json")
    (report,) = ran.json
    assert (report["dry_run"], report["activities"]) == (True, 2)
    assert (report["malformed"], report["refused"]) == (1, {"INVALID_FIELD": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "actor=x", "rows.jsonl"], ("--columns, --map, --set and --ignore are for "
         "--format tsv and csv; rows.jsonl is read as jsonl")),
        (["--map", "actor", "rows.tsv"], "--map actor: write FIELD=COLUMN"),
        (["--map", "name=actor", "rows.tsv"], f"--map name=actor: name is no field; {FIELDS_ARE}"),
        (["--set", "verb=", "rows.tsv"], "--set verb=: write FIELD=VALUE"),
        (["--set", "verb=a", "--set", "verb=b", "rows.tsv"], "--set gives verb twice"),
        (["--map", "actor=user", "rows.tsv"], ("--map names the column user, but the columns are "
         "actor, verb")),
        (["--ignore", "user", "rows.tsv"], ("--ignore names the column user, but the columns are "
         "actor, verb")),
        (["--set", "followee=x", "rows.tsv"], "--set gives followee, which activities do not have"),
        (["--separator", "", "rows.tsv"], "--separator must not be empty"),
        (["--format", "tsv", "--preset", "higgs", "rows.tsv"], ("--preset is an older name of "
         "--format: give one of them")),
        (["--rejects", "rows.tsv", "rows.tsv"], ("--rejects would replace rows.tsv, which is "
         "imported")),
        (["--rejects", "rejects", "rows.tsv", "rows.jsonl"], ("--rejects writes a file of one "
         "format with one header line, and rows.tsv and rows.jsonl differ: import them one after "
         "the other")),
    ],
)  # fmt: skip
async def test_options_that_do_not_fit_are_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.tsv").write_bytes(b"actor\tverb\nalice\tpost\n")
    (tmp_path / "rows.jsonl").write_bytes(lines(follow("bob", "alice")))
    ran = await Feedsvc("127.0.0.1:1")("import", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == f"Error: {message}"
    assert (tmp_path / "rows.tsv").stat().st_size


# Files that end early, and imports that do.


async def test_a_file_that_is_cut_off_is_imported_up_to_there_and_named(
    service: Service, feedsvc: Feedsvc, tmp_path: Path
) -> None:
    path = tmp_path / "rows.gz"
    rows = [lines(activity("alice", f"{number:x}" * 100)) for number in range(100)]
    path.write_bytes(b"".join(gzip.compress(row) for row in rows)[:-20])
    ran = await feedsvc("import", path, "--json")
    assert ran.code == 1
    rule = "ends early: the gzip file is cut off after line 99"
    assert ran.err.splitlines() == [
        f"{path}: {rule}",
        f"not read to the end: {path}; the rows after that were not imported",
    ]
    assert ran.json[0]["damaged_files"] == {str(path): rule}
    assert ran.json[0]["activities"] == 99


async def test_an_empty_file_is_named(feedsvc: Feedsvc, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.touch()
    ran = await feedsvc("import", path)
    assert (ran.code, ran.err) == (0, f"{path}: is empty\n")


async def test_an_import_stops_after_too_many_rejects(feedsvc: Feedsvc) -> None:
    rows = lines(follow("bob", "alice")) + b"rubbish\n" * 5
    ran = await feedsvc("import", "-", "--max-rejects", "3", "--json", stdin=rows)
    assert ran.code == 1
    error = (
        "stopped, because more than 3 rows were rejected (--max-rejects); import the same files "
        "again to go on: what is there already counts as a duplicate"
    )
    assert ran.err.splitlines()[4:] == [
        "4 of 5 rows were not imported; --rejects FILE writes them to a file",
        f"Error: {error}",
    ]
    assert ran.json[0]["error"] == error


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_the_import_with_what_was_imported_so_far(
    serve: Serve, number: signal.Signals, status: int
) -> None:
    limits = Limits(inline_audience=1, push_chunk=1, max_jobs=2)
    service = await serve(limits=limits, workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    rows = lines(follow("dave", "alice"), *(activity("alice", str(n)) for n in range(12)))
    process = await Feedsvc(f"127.0.0.1:{service.server.port}").start("import", "-", "--json")
    importing = asyncio.create_task(ended(process, rows))

    async def full() -> bool:
        return len(await service.outbox("alice")) == 2

    await wait_until(full)
    process.send_signal(number)
    ran = await importing
    assert ran.code == status
    (report,) = ran.json
    assert (report["follows"], report["interrupted"]) == (1, True)
    assert ran.err == (
        "interrupted; import the same files again to go on: what is there already counts as a "
        "duplicate\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_standard_input_is_copied_imports_nothing(
    feedsvc: Feedsvc, number: signal.Signals
) -> None:
    process = await feedsvc.start("import", "-")
    assert process.stdin is not None
    # The pipe holds less than this: the command has begun to read when all is written.
    process.stdin.write(lines(follow("bob", "alice")) * 100_000)
    await process.stdin.drain()
    process.send_signal(number)
    ran = await ended(process)
    assert ran.code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert ran.err == "interrupted: nothing was imported\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_an_import_whose_reader_has_gone_does_not_begin(
    service: Service, feedsvc: Feedsvc, mixed: Path, form: list[str]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", "import", mixed, *form, "--server", feedsvc.server),
        stdout=(closed := _closed_pipe()),
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(closed)
    _, err = await process.communicate()
    assert (process.returncode, err) == (READER_LEFT, b"")
    assert not await contents(service, "dave")


def _closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


async def test_a_full_disk_of_rejects_ends_the_import(feedsvc: Feedsvc, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    rejects.symlink_to("/dev/full")
    rows = lines(follow("bob", "alice")) + b"rubbish\n"
    ran = await feedsvc("import", "-", "--rejects", rejects, stdin=rows)
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        f"Error: cannot write the rejects to {rejects}: No space left on device; import the same "
        "files again to go on: what is there already counts as a duplicate"
    )


async def test_rejects_that_cannot_be_written_are_refused_at_the_start(
    tmp_path: Path, mixed: Path
) -> None:
    rejects = tmp_path / "no" / "rejects"
    ran = await Feedsvc("127.0.0.1:1")("import", mixed, "--rejects", rejects)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"Error: cannot write the rejects to {rejects}: No such file or directory\n"
