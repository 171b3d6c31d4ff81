"""``feedsvc verify``, ``feedsvc rebuild`` and ``feedsvc stats``."""

import pytest
from activityfeed.admin.v1.admin_service_pb2 import VerifyFeedResponse
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse

from feedsvc.cli.stored_feeds import _duration
from feedsvc.core import keys
from tests.serving import Service

from .conftest import Feedsvc

REFUSED = "user: must not contain control characters (INVALID_FIELD)"


@pytest.fixture
async def posted(service: Service) -> list[str]:
    """Make the feed of bob, who follows alice, warm. Return the activities in it, oldest first."""
    await service.follow("bob", "alice")
    activity_ids = await service.post_many("alice", 3)
    await service.warm("bob")
    return activity_ids


async def lose_newest_entry(service: Service, user: str) -> None:
    """Make a stored feed wrong: cut its newest id, the first eight bytes of its packed list."""
    key = keys.feed(service.tag(user), user)
    field = b"\x00"
    entries = await service.store.hgetall(key)
    field = max(entries, key=lambda name: len(entries[name]))
    await service.store.hset(key, field, entries[field][8:])


async def test_verify_says_exact_or_cold(
    service: Service, feedsvc: Feedsvc, posted: list[str]
) -> None:
    ran = await feedsvc("verify", "bob", "carol")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "bob: exact, 3 entries compared\ncarol: cold: nothing is stored\n"
    ran = await feedsvc("verify", "bob", "--json")
    assert ran.json == [
        {"user": "bob", "state": "FEED_STATE_WARM", "comparedCount": 3, "differences": []}
    ]
    answer = {name: value for name, value in ran.json[0].items() if name != "user"}
    assert Parse(str(answer).replace("'", '"'), VerifyFeedResponse()) == await service.verify("bob")


async def test_a_refused_user_does_not_stop_the_others(
    service: Service, feedsvc: Feedsvc, posted: list[str]
) -> None:
    for command in ("verify", "rebuild", "stats"):
        ran = await feedsvc(command, "a\tb", "bob")
        assert (ran.code, ran.err) == (1, f"a b: {REFUSED}\n")
        assert ran.out.startswith("bob")
        ran = await feedsvc(command, "a\tb", "bob", "--json")
        assert (ran.code, ran.err) == (1, "")
        assert [line["user"] for line in ran.json] == ["a\tb", "bob"]
        assert ran.json[0]["error"] == REFUSED


async def test_users_come_from_standard_input_in_order(
    service: Service, feedsvc: Feedsvc, posted: list[str]
) -> None:
    users = [f"user:{number}" for number in range(40)]
    ran = await feedsvc("stats", "bob", "-", "--json", stdin="\n".join(["", *users, ""]).encode())
    assert (ran.code, ran.err) == (0, "")
    assert [line["user"] for line in ran.json] == ["bob", *users]
    ran = await feedsvc("verify", "-", stdin=b"")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    ran = await feedsvc("verify", "-", stdin=b"\xff\n")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "Error: standard input is not text in UTF-8"


async def test_without_a_server_the_first_failure_ends_the_command(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("verify", "bob", "carol", "--server", "127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "Error: no server answers at 127.0.0.1:1: start one with `feedsvc serve`, "
        "or name another with --server\n"
    )


async def test_stats_are_a_table_of_sixty_columns(
    service: Service, feedsvc: Feedsvc, posted: list[str]
) -> None:
    ran = await feedsvc("stats", "bob")
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 60
    name, *lines = ran.out.splitlines()
    rows = {line[:14].strip(): line[14:26].strip() for line in lines}
    assert name == "bob"
    assert rows.pop("bytes").isdigit()
    assert rows.pop("cold in").startswith(("30 d", "29 d"))
    assert rows == {
        "state": "warm",
        "entries": "3",
        "complete": "the whole fe",
        "follows": "1",
        "pulled": "0",
        "live": "no",
    }
    (line,) = (await feedsvc("stats", "bob", "--json")).json
    assert (line["entryCount"], line["followingCount"], line["live"]) == (3, 1, False)
    assert line["storedBytes"].isdigit(), "64-bit numbers are strings, as grpcurl prints them"


async def test_rebuild_makes_a_feed_warm(service: Service, feedsvc: Feedsvc) -> None:
    await service.post("alice")
    ran = await feedsvc("rebuild", "alice")
    assert (ran.code, ran.out, ran.err) == (0, "alice: rebuilt, 1 entry stored\n", "")
    assert (await service.stats("alice")).entry_count == 1
    ran = await feedsvc("rebuild", "alice", "--json")
    assert ran.json == [{"user": "alice", "state": "FEED_STATE_WARM", "entryCount": 1}]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7_200, "2 h"),
        (90_000, "1 d 1 h"),
        (2_592_000, "30 d"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: int, words: str) -> None:
    assert _duration(Duration(seconds=seconds).ToSeconds()) == words
