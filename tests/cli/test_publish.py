"""``feedsvc publish``: lost replies, repetitions, and JSON as other programs print it."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import GetActivityRequest, PublishActivityResponse
from google.protobuf.json_format import MessageToDict, Parse

from tests.serving import Service

from .conftest import Feedsvc


@asynccontextmanager
async def losing_replies(port: int) -> AsyncIterator[int]:
    """Run a proxy before a server. It passes on one publish, and cuts the connection at the reply.

    After that the proxy accepts no connection. Yield its port.
    """
    server: asyncio.Server

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        forward = asyncio.create_task(_copy(reader, far_writer))
        while data := await far_reader.read(65_536):
            if b"delivery" in data or b"etag" in data or b"v1" in data:  # the activity's etag
                server.close()
                writer.transport.abort()
                break
            writer.write(data)
        forward.cancel()
        far_writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


async def test_after_a_lost_reply_the_printed_command_publishes_nothing_twice(
    service: Service, feedsvc: Feedsvc
) -> None:
    async with losing_replies(service.server.port) as port:
        ran = await feedsvc(
            *("publish", "alice", "post", "--content", "it's 5 o'clock"),
            *("--server", f"127.0.0.1:{port}"),
        )
    first, rule, command = ran.err.splitlines()
    assert (ran.code, ran.out) == (1, "")
    assert first == (
        f"Error: no server answers at 127.0.0.1:{port}: start one with `feedsvc serve`, "
        "or name another with --server"
    )
    assert rule == (
        "The activity may have been published. This command publishes it only if it was not, "
        "for 24 hours:"
    )
    assert len(await service.outbox("alice")) == 1
    arguments = shlex.split(command)
    assert arguments[1:4] == ["-m", "feedsvc", "publish"]
    assert re.fullmatch("[0-9a-f]{32}", arguments[5])
    assert arguments[6:] == [
        *("alice", "post", "--content", "it's 5 o'clock", "--server", f"127.0.0.1:{port}")
    ]
    repeated = await feedsvc(*arguments[3:], "--server", feedsvc.server)
    assert repeated.code == 0
    assert ", was there already; delivered" in repeated.out
    assert len(await service.outbox("alice")) == 1


async def test_a_lost_reply_of_a_request_with_an_id_names_the_same_command(
    service: Service, feedsvc: Feedsvc
) -> None:
    async with losing_replies(service.server.port) as port:
        ran = await feedsvc(
            *("publish", "alice", "post", "--request-id", "mine"),
            *("--server", f"127.0.0.1:{port}"),
        )
    command = ran.err.splitlines()[-1]
    assert command.endswith(
        f"-m feedsvc publish alice post --request-id mine --server 127.0.0.1:{port}"
    )


async def test_a_refused_publish_does_not_speak_of_repeating(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc("publish", "a\nb", "post")
    assert (ran.code, ran.err) == (
        1,
        "Error: activity.actor: must not contain control characters (INVALID_FIELD)\n",
    )


@pytest.mark.parametrize("name", ["alice", "é", "\U0001f600"])
async def test_json_is_that_of_the_contract(
    service: Service, feedsvc: Feedsvc, client: FeedClient, name: str
) -> None:
    await service.follow("bob", name)
    ran = await feedsvc(*("publish", name, "post", "--extra", '{"n": 1, "ü": [null]}', "--json"))
    assert ran.out.count("\n") == 1
    (printed,) = ran.json
    # The default options of protobuf's JSON; the parser takes other names and forms too.
    assert printed == MessageToDict(Parse(ran.out, PublishActivityResponse()))
    answer = await client.activities.GetActivity(GetActivityRequest(id=printed["activity"]["id"]))
    assert printed["activity"] == MessageToDict(answer.activity.activity)
    assert printed["activity"]["createTime"].endswith("Z")
    assert printed["activity"]["extra"] == {"n": 1, "ü": [None]}
    assert printed["delivery"] == {
        "state": "DELIVERY_STATE_DELIVERED",
        "deliveredCount": "0",
        "skippedColdCount": "1",
        "audienceCount": "1",
    }
