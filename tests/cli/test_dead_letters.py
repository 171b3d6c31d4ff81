"""``feedsvc dead-letters``."""

import json
import re

import pytest

from feedsvc.config import Limits
from feedsvc.core.job import Job, Kind
from tests.dead_letters import ERROR, MISSING_ACTIVITY_ID, store_dead_letters
from tests.serving import Serve, Service

from .conftest import Feedsvc

MISSING = "the dead letter was replayed or discarded, or never existed (DEAD_LETTER_NOT_FOUND)"


@pytest.fixture
async def service(serve: Serve) -> Service:
    """A service without workers, so that replayed jobs keep waiting."""
    service = await serve(limits=Limits(inline_audience=1, push_chunk=1), workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    return service


async def test_each_dead_letter_is_listed_in_one_line(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("dead-letters")
    assert (ran.code, ran.out, ran.err) == (0, "", "no dead letters\n")
    planted = await store_dead_letters(service, 7, Job(Kind.FLIP, 17, "star\x1b"))
    ran = await feedsvc("dead-letters")
    assert [line.split("  ")[-3] for line in ran.out.splitlines()] == planted
    first = ran.out.splitlines()[0]
    assert first.endswith(
        f"{planted[0]}  deliver {MISSING_ACTIVITY_ID} to followers of alice  8 attempts: {ERROR}"
    )
    assert re.search(r"just now|\d s ago", first)
    assert "flip to followers of star   8 attempts" in ran.out
    assert "\x1b" not in ran.out
    letters = (await feedsvc("dead-letters", "--json")).json
    assert [letter["id"] for letter in letters] == planted
    assert letters[0]["job"]["skippedColdCount"] == "2"
    assert letters[0]["job"]["deliveredCount"] == "0"


async def test_one_dead_letter_is_shown(service: Service, feedsvc: Feedsvc) -> None:
    *_, wanted = await store_dead_letters(
        service, 5, Job(Kind.DELIVER, MISSING_ACTIVITY_ID + 3, "alice", ("repo:x", "y"))
    )
    ran = await feedsvc("dead-letters", "--show", wanted)
    rows = [line.rstrip().split(maxsplit=1) for line in ran.out.splitlines()]
    assert ["id", wanted] in rows
    assert ["activity", str(MISSING_ACTIVITY_ID + 3)] in rows
    assert ["to", "repo:x"] in rows
    assert ["to", "y"] in rows
    assert ["queued", "2023-11-14T22:13:20.123Z"] in rows
    assert ["error", ERROR] in rows
    (letter,) = (await feedsvc("dead-letters", "--show", wanted, "--json")).json
    assert (letter["id"], letter["error"]) == (wanted, ERROR)
    ran = await feedsvc("dead-letters", "--show", "0-1-1")
    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        "Error: there is no dead letter 0-1-1: `feedsvc dead-letters` lists all\n",
    )


async def test_named_dead_letters_are_replayed(service: Service, feedsvc: Feedsvc) -> None:
    planted = await store_dead_letters(service, 4)
    replay = ("dead-letters", "--replay", planted[0], "--replay", planted[2])
    ran = await feedsvc(*replay)
    assert (ran.code, ran.out, ran.err) == (0, "2 of 2 replayed\n", "")
    remaining = (await feedsvc("dead-letters", "--json")).json
    assert [letter["id"] for letter in remaining] == [planted[1], planted[3]]
    ran = await feedsvc(*replay, "--replay", planted[1], "--replay", "x")
    assert (ran.code, ran.out) == (1, "1 of 4 replayed\n")
    assert ran.err.splitlines() == [
        f"{planted[0]}: {MISSING}",
        f"{planted[2]}: {MISSING}",
        "x: id: must be a dead letter's id: <shard>-<milliseconds>-<number> (INVALID_FIELD)",
    ]
    ran = await feedsvc("dead-letters", "--json", "--replay", planted[3], "--replay", planted[3])
    assert ran.code == 1
    assert ran.json == [
        {"id": planted[3], "replayed": True, "error": ""},
        {"id": planted[3], "replayed": False, "error": MISSING},
    ]


async def test_named_dead_letters_are_discarded(service: Service, feedsvc: Feedsvc) -> None:
    planted = await store_dead_letters(service, 4)
    discard = ("dead-letters", "--discard", planted[0], "--discard", planted[2])
    ran = await feedsvc(*discard)
    assert (ran.code, ran.out, ran.err) == (0, "2 of 2 discarded\n", "")
    ran = await feedsvc(*discard, "--discard", planted[1])
    assert (ran.code, ran.out) == (1, "1 of 3 discarded\n")
    ran = await feedsvc("dead-letters", "--json", "--discard", planted[3])
    assert json.loads(ran.out) == {"id": planted[3], "discarded": True, "error": ""}
    ran = await feedsvc("dead-letters")
    assert (ran.code, ran.out, ran.err) == (0, "", "no dead letters\n")


async def test_all_dead_letters_are_replayed(service: Service, feedsvc: Feedsvc) -> None:
    ran = await feedsvc("dead-letters", "--replay-all")
    assert (ran.code, ran.out) == (0, "0 of 0 replayed\n")
    await store_dead_letters(service, 1_203)
    ran = await feedsvc("dead-letters", "--replay-all")
    assert (ran.code, ran.out, ran.err) == (0, "1,203 of 1,203 replayed\n", "")
    ran = await feedsvc("dead-letters")
    assert (ran.code, ran.out, ran.err) == (0, "", "no dead letters\n")
