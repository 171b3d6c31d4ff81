"""Commands that publish, follow, read and tail, and the behaviour that all commands share."""

import asyncio
import json
import os
import signal
import sys

import pytest
from activityfeed.v1.activity_pb2 import Activity, Ref
from google.protobuf.timestamp_pb2 import Timestamp

from feedsvc.cli.rendering import activity_line, age, plain
from feedsvc.config import Limits
from tests.serving import Serve, Service

from .conftest import Feedsvc, ended


async def test_follow_publish_feed_and_unfollow_print_sentences(
    service: Service, feedsvc: Feedsvc
) -> None:
    assert (await feedsvc("follow", "bob", "repo:kettle")).out == "bob now follows repo:kettle\n"
    assert (await feedsvc("follow", "bob", "repo:kettle")).out == (
        "bob already follows repo:kettle\n"
    )
    ran = await feedsvc(
        "publish", "alice", "push", "branch:main", "--target", "repo:kettle",
        "--to", "repo:kettle", "--content", "It whistles", "--time", "2020-01-01T12:00",
    )  # fmt: skip
    assert "2020-01-01  alice pushed to branch:main in repo:kettle “It whistles”" in ran.out
    assert "delivered (1 follower, put into 0 warm feeds, 1 cold one will find it)" in ran.out
    ran = await feedsvc("feed", "bob")
    assert ran.out == (
        "  2020-01-01  alice pushed to branch:main in repo:kettle “It whistles”  via repo:kettle\n"
    )
    assert (await feedsvc("unfollow", "bob", "repo:kettle")).out == (
        "bob no longer follows repo:kettle\n"
    )
    assert "Nothing yet" in (await feedsvc("feed", "bob")).out


async def test_publish_has_an_option_for_every_field_of_an_activity(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc(
        "publish", "alice", "review", "pull:1", "--object-name", "pull request 1",
        "--to", "repo:a", "--to", "repo:b", "--to-only", "--mention", "bob",
        "--external-id", "e1", "--request-id", "r1", "--extra", '{"score": [1, 2]}',
        "--time", "2020-01-01T12:00:00+02:00", "--json",
    )  # fmt: skip
    (answer,) = ran.json
    published = answer["activity"]
    assert published.pop("id") == (await service.outbox("repo:a"))[0]
    assert published.pop("createTime") > published["publishTime"]
    assert published == {
        "actor": "alice",
        "verb": "review",
        "object": {"id": "pull:1", "name": "pull request 1"},
        "to": ["repo:a", "repo:b"],
        "audience": "AUDIENCE_TO_ONLY",
        "mentions": ["bob"],
        "externalId": "e1",
        "extra": {"score": [1, 2]},
        "publishTime": "2020-01-01T10:00:00Z",
        "etag": "v1",
    }


async def test_publish_prints_the_state_of_the_delivery(serve: Serve) -> None:
    limits = Limits(inline_audience=1, push_chunk=1)
    idle = await serve(limits=limits, workers=0)
    feedsvc = Feedsvc(f"127.0.0.1:{idle.server.port}")
    await idle.follow_all([("bob", "alice"), ("carol", "alice")])
    queued = await feedsvc("publish", "alice", "post", "--request-id", "r")
    assert "queued: workers deliver it (2 followers, " in queued.out
    await idle.stop()
    await serve(limits=limits, port=idle.server.port)
    ran = await feedsvc("publish", "alice", "post", "--request-id", "r", "--wait")
    assert "was there already; delivered (2 followers, put into 0 warm feeds, 2 cold " in ran.out
    (answer,) = (await feedsvc("publish", "alice", "post", "--wait", "--json")).json
    assert answer["delivery"] == {
        "deliveredCount": "0",
        "skippedColdCount": "2",
        "state": "DELIVERY_STATE_DELIVERED",
        "audienceCount": "2",
    }
    ran = await feedsvc("publish", "lonely", "post")
    assert ran.out.endswith("; delivered\n")


async def test_json_prints_one_message_a_line(service: Service, feedsvc: Feedsvc) -> None:
    (edge,) = (await feedsvc("follow", "bob", "alice", "--json")).json
    assert edge["edge"]["followee"] == "alice"
    ids = await service.post_many("alice", 45)
    assert len((await feedsvc("feed", "bob", "--json")).json) == 20
    assert len((await feedsvc("feed", "bob", "--json", "--page-size", 7)).json) == 7
    items = (await feedsvc("feed", "bob", "--json", "--all")).json
    assert [item["activity"]["activity"]["id"] for item in items] == ids[::-1]
    (ended,) = (await feedsvc("unfollow", "bob", "alice", "--json")).json
    assert ended == {"wasFollowing": True}


async def test_feed_says_that_older_pages_may_exist(service: Service, feedsvc: Feedsvc) -> None:
    await service.post_many("alice", 25)
    lines = (await feedsvc("feed", "alice")).out.splitlines()
    assert (len(lines), lines[-1]) == (21, "There may be more: --all")
    assert len((await feedsvc("feed", "alice", "--all")).out.splitlines()) == 25


async def test_tail_prints_events_as_they_happen(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("tail", "bob", "--count", 4)
    assert process.stdout is not None
    assert b"Live" in await process.stdout.readline()
    await service.follow("bob", "alice")
    assert await process.stdout.readline() == b"              bob now follows alice\n"
    posted = await service.post("alice", content="hello")
    # Read the line before the delete: an activity deleted before its event is sent has no event.
    line = (await process.stdout.readline()).decode()
    assert line == "    just now  alice posted “hello”\n"
    await service.delete(posted, "alice")
    await service.unfollow("bob", "alice")
    ran = await ended(process)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        f"     removed  {posted}",
        "              bob no longer follows alice",
    ]


async def test_tail_resumes_from_a_token(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("tail", "alice", "--json")
    assert process.stdout is not None
    token = json.loads(await process.stdout.readline())["resumeToken"]
    first, second = await service.post("alice"), await service.post("alice")
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).code == 130
    ran = await feedsvc("tail", "alice", "--json", "--count", 2, "--resume-token", token)
    started, *messages = ran.json
    assert started["started"] == {"start": "SUBSCRIPTION_START_RESUMED"}
    events = [event for message in messages for event in message["events"]["events"]]
    assert [event["added"]["itemId"] for event in events] == [first, second]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["follow", "bob", "bob"],
            "followee: must be another entity than follower (INVALID_FIELD)",
        ),
        (["publish", "a\nb", ""], "activity.actor: must not contain control characters; "),
        (["tail", "bob", "--resume-token", "x"], "(RESUME_TOKEN_INVALID)"),
        (["feed", "bob", "--server", "127.0.0.1:1"], "no server answers at 127.0.0.1:1"),
    ],
)
async def test_a_failed_call_prints_one_line(
    feedsvc: Feedsvc, arguments: list[str], message: str
) -> None:
    ran = await feedsvc(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["publish", "a", "b", "--time", "soon"], "'soon' is no time"),
        (["publish", "a", "b", "--extra", "[1]"], "not a JSON object"),
        (["feed", "a", "--page-size", "101"], "1<=x<=100"),
        (["import", "/no/such/file"], "does not exist"),
        (["import", "--preset", "other", "-"], "canonical"),
        (["dead-letters", "--replay-all", "--show", "0-1-1"], "exclude each other"),
        (["dead-letters", "--replay", "0-1-1", "--replay-all"], "exclude each other"),
        (["dead-letters", "--discard", "0-1-1", "--replay-all"], "exclude each other"),
    ],
)
async def test_a_wrong_option_is_reported_before_any_call(
    feedsvc: Feedsvc, arguments: list[str], message: str
) -> None:
    ran = await feedsvc(*arguments, "--server", "127.0.0.1:1")
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_a_closed_pipe_is_no_error(
    service: Service, feedsvc: Feedsvc, form: list[str]
) -> None:
    await service.post_many("alice", 1_000, content="x" * 1_000)
    command = f"{sys.executable} -m feedsvc feed alice --all {' '.join(form)} | head -1"
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"FEEDSVC_SERVER": feedsvc.server},
    )
    ran = await ended(process)
    assert ran.out.count("\n") == 1
    assert ran.err == ""


async def test_ctrl_c_ends_a_command_without_a_word(feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("tail", "bob")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize(
    "command",
    [
        "", "serve", "worker", "demo", "publish", "follow", "unfollow", "feed", "tail", "import",
        "status", "fanout", "dead-letters", "verify", "rebuild", "stats", "delivery", "bench",
        "completion",
    ],
)  # fmt: skip
async def test_every_command_has_help(feedsvc: Feedsvc, command: str) -> None:
    ran = await feedsvc(*command.split(), "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: feedsvc {command}".rstrip())
    assert "\\b" not in ran.out  # click's mark for lines that it must not wrap
    if not command:
        assert ran.out.count("...") == 1, "the line of a command is cut"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3600, "in the future"),
        (-1, "just now"),
        (0, "just now"),
        (1.99, "just now"),
        (2, "2 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3_600, "1 h ago"),
        (86_400, "1 d ago"),
        (29 * 86_400, "29 d ago"),
    ],
)
def test_age_is_in_words(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_control_characters_of_an_activity_do_not_reach_the_terminal() -> None:
    dangerous = "a\x1b[2J\x9b1m\r\n\x07"
    line = activity_line(
        Activity(
            actor=dangerous,
            verb=dangerous,
            object=Ref(id=dangerous),
            target=Ref(id="x", name=dangerous),
            content=dangerous,
            publish_time=Timestamp(seconds=1),
        ),
        [dangerous],
    )
    assert line.plain == plain(line.plain)
