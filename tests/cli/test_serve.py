"""``feedsvc serve`` and ``feedsvc worker``."""

import asyncio
import dataclasses
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from activityfeed import FeedClient

from feedsvc.cli.serve import serve, worker
from feedsvc.cli.settings import SettingOption
from feedsvc.config import Config, Limits
from tests.serving import TIMEOUT_SECONDS, Serve, Service, wait_until

from .conftest import Feedsvc, Ran, ended


@pytest.fixture
def feedsvc() -> Feedsvc:
    return Feedsvc("127.0.0.1:1")


@pytest.fixture
async def running(
    feedsvc: Feedsvc, tmp_path: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start a server with a store of its own; yield the process and its port."""
    process = await feedsvc.start("serve", "--port", 0, "--data-dir", tmp_path / "data")
    try:
        assert process.stderr is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            line = await process.stderr.readline()
        yield process, int(line.rpartition(b":")[2])
    finally:
        if process.returncode is None:
            process.kill()
            await ended(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_server_serves_until_a_signal_stops_it(
    running: tuple[asyncio.subprocess.Process, int], number: signal.Signals
) -> None:
    process, port = running
    async with FeedClient.connect(f"127.0.0.1:{port}") as client:
        assert [page.items async for page in client.pages("alice")] == [[]]
    process.send_signal(number)
    ran = await ended(process)
    assert (ran.code, ran.out) == (0, "")
    assert "stopping" in ran.err


async def test_a_busy_port_is_reported_in_one_line(
    feedsvc: Feedsvc, tmp_path: Path, running: tuple[asyncio.subprocess.Process, int]
) -> None:
    _, port = running
    ran = await feedsvc("serve", "--port", port, "--data-dir", tmp_path / "other")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"Error: cannot listen on 127.0.0.1:{port}: is another server there? Give another --port\n"
    )


async def test_a_busy_directory_is_reported_in_one_line(
    feedsvc: Feedsvc, tmp_path: Path, running: tuple[asyncio.subprocess.Process, int]
) -> None:
    ran = await feedsvc("serve", "--port", 0, "--data-dir", tmp_path / "data")
    assert ran.code == 1
    assert ran.err.startswith("Error: another server is running on ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--redis-url", "redis://:s3cret@127.0.0.1:1"], 1, "the store cannot be reached"),
        (["--redis-url", "redis://:s3cret/x@host"], 2, "not an address such as redis://"),
        (["--redis-url", "http://:s3cret@host"], 2, "not an address such as redis://"),
        (["--shards", 3], 1, "Error: --shards must be a power of two, not 3"),
        (["--feed-cap", 1000], 1, "Error: --outbox-cap (1000) must be at least"),
        (["--port", 70_000], 2, "must be 0 to 65535, not 70000"),
        (["--workers", 17], 2, "must be 0 to 16, not 17"),
    ],
)
async def test_a_wrong_setting_of_a_server_is_reported_without_secrets(
    feedsvc: Feedsvc, arguments: list[object], code: int, message: str
) -> None:
    ran = await feedsvc("serve", *arguments)
    check_report(ran, code, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing option '--redis-url'"),
        (["--redis-url", ""], 2, "Missing option '--redis-url'"),
        (["--redis-url", "redis://:s3cret@127.0.0.1:1"], 1, "the store cannot be reached"),
        (["--redis-url", "http://:s3cret@host"], 2, "not an address such as redis://"),
        (["--redis-url", "redis://h", "--workers", 0], 2, "must be 1 to 16, not 0"),
        (["--redis-url", "redis://h", "--shards", 3], 1, "--shards must be a power of two, not 3"),
    ],
)
async def test_a_wrong_setting_of_a_worker_is_reported_without_secrets(
    feedsvc: Feedsvc, arguments: list[object], code: int, message: str
) -> None:
    ran = await feedsvc("worker", *arguments)
    check_report(ran, code, message)


def check_report(ran: Ran, code: int, message: str) -> None:
    assert ran.code == code
    assert message in ran.err.replace("\n", " ")
    assert "s3cret" not in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", [["serve", "--port", 0], ["worker"]])
async def test_a_store_with_another_number_of_shards_is_refused(
    feedsvc: Feedsvc, service: Service, command: list[object]
) -> None:
    url = service.server.config.redis_url
    ran = await feedsvc(*command, "--redis-url", url, "--shards", 8)
    assert ran.code == 1
    assert ran.err == ("Error: the store was made with 16 shards, not 8: start with --shards 16\n")


def test_every_setting_is_an_option_and_a_variable() -> None:
    limits = {field.name for field in dataclasses.fields(Limits)}
    own = {field.name for field in dataclasses.fields(Config)} - {"limits"}
    for command, expected in (
        (serve, limits | own),
        (worker, limits | {"redis_url", "workers"}),
    ):
        options = {option.name: option for option in command.params}
        settings = {name for name, option in options.items() if isinstance(option, SettingOption)}
        assert settings == expected
        for option in options.values():
            (flag,) = option.opts
            variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar
            assert variables[0] == f"FEEDSVC_{flag.removeprefix('--').replace('-', '_').upper()}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_delivers_until_a_signal_stops_it(
    feedsvc: Feedsvc, serve: Serve, number: signal.Signals
) -> None:
    # A worker has no streams, so it takes a log_lease that is short for a server's default
    # checkpoint_seconds.
    limits = Limits(inline_audience=1, push_chunk=1, log_lease=30)
    service = await serve(limits=limits, workers=0, checkpoint_seconds=10)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    await service.warm("bob", "carol")
    url = service.server.config.redis_url
    process = await feedsvc.start(
        "worker", "--redis-url", url, "--inline-audience", 1, "--log-lease", 30
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert b"working" in await process.stderr.readline()
        posted = await service.post("alice")

        async def delivered() -> bool:
            entries = [(await service.stats(name)).entry_count for name in ("bob", "carol")]
            return entries == [1, 1]

        await wait_until(delivered)
        assert await service.feed("bob") == [posted]
        process.send_signal(number)
        ran = await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
            await ended(process)
    assert (ran.code, ran.out) == (0, "")
    assert "Traceback" not in ran.err


async def test_a_stopped_server_does_not_answer(
    running: tuple[asyncio.subprocess.Process, int],
) -> None:
    process, port = running
    process.terminate()
    await ended(process)
    async with FeedClient.connect(f"127.0.0.1:{port}") as client:
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(client.pages("alice"))
