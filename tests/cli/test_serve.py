"""``feedsvc serve`` and ``feedsvc worker``."""

import asyncio
import dataclasses
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from activityfeed import FeedClient
from redis.asyncio import Redis

from feedsvc.cli.serve import serve, worker
from feedsvc.cli.settings import SettingOption
from feedsvc.config import Config, Limits
from feedsvc.embedded import find_server
from feedsvc.server_status import VERSION
from tests.harness.processes import find_free_port
from tests.nodes import Node
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
        f"Error: cannot listen on 127.0.0.1:{port}: another program listens there: stop that "
        "program, or give another --port\n"
    )


async def test_a_busy_directory_is_reported_in_one_line(
    feedsvc: Feedsvc, tmp_path: Path, running: tuple[asyncio.subprocess.Process, int]
) -> None:
    ran = await feedsvc("serve", "--port", 0, "--data-dir", tmp_path / "data")
    assert ran.code == 1
    assert ran.err.startswith("Error: another server is running on ")
    assert ran.err.count("\n") == 1


REFUSED = "the store 127.0.0.1:1 cannot be reached (the connection is refused): is it running"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--redis-url", "redis://:s3cret@127.0.0.1:1"], 1, REFUSED),
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
        (["--redis-url", "redis://:s3cret@127.0.0.1:1"], 1, REFUSED),
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


async def lines_until(process: asyncio.subprocess.Process, text: str) -> list[str]:
    """Return the lines on stderr, without the log's times, up to the first that has the text."""
    assert process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not lines or text not in lines[-1]:
            line = (await process.stderr.readline()).decode()
            assert line, lines  # the process has ended
            lines.append(re.sub(r"^[\d-]+T[\d:.]+Z ", "", line.rstrip("\n")))
    return lines


@asynccontextmanager
async def started(
    feedsvc: Feedsvc, *arguments: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await feedsvc.start(*arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await ended(process)


def product() -> str:
    """Return the store that tests start, as people write its name."""
    server = find_server()
    return f"{server.name.capitalize()} {'.'.join(map(str, server.version))}"


async def test_ready_server_shows_what_it_works_on(feedsvc: Feedsvc, tmp_path: Path) -> None:
    """The log has the address first; a file gets the banner without colours."""
    arguments = ("serve", "--port", 0, "--data-dir", tmp_path, "--workers", 3)
    async with started(feedsvc, *arguments) as process:
        lines = await lines_until(process, "try next")
    log_line, *banner = lines
    assert log_line.startswith("INFO serve: serving on 127.0.0.1:")
    server = log_line.rpartition(" ")[2]
    assert banner == [
        f"feedsvc {VERSION} is ready",
        f"  listens on   {server}",
        f"  store        {product()}, embedded",
        f"  data         {tmp_path}",
        "  persistence  append-only file, synced always",
        "  eviction     none (noeviction)",
        "  shards       16",
        "  workers      3",
        f"  try next     feedsvc tail alice --server {server}",
    ]


async def test_server_and_worker_warn_of_a_store_that_may_lose_data(
    feedsvc: Feedsvc, tmp_path: Path
) -> None:
    node = Node(tmp_path / "store")
    await node.start()
    try:
        await node.redis.execute_command(
            "ACL", "SETUSER", "own", "on", ">s3cret", "~*", "&*", "+@all"
        )
        await node.redis.mset({f"session:{number}": 1 for number in range(3)})
        url = node.url.replace("//", "//own:s3cret@")
        for command in (["serve", "--port", 0, "--workers", 0], ["worker"]):
            async with started(feedsvc, *command, "--redis-url", url) as process:
                lines = await lines_until(process, "no memory limit")
                if command[0] == "serve":
                    lines += await lines_until(process, "no workers")
            text = "\n".join(lines)
            assert "s3cret" not in text
            assert f"  store        {product()} at {node.url}/0\n" in text
            assert "WARNING serve: the store keeps nothing on disk: " in text
            assert "keys of other programs (3 of " in text
    finally:
        await node.stop()


async def test_log_of_warnings_has_no_banner(feedsvc: Feedsvc, tmp_path: Path) -> None:
    arguments = ("--port", 0, "--data-dir", tmp_path, "--workers", 0, "--log-level", "warning")
    async with started(feedsvc, "serve", *arguments) as process:
        (line,) = await lines_until(process, "no workers")
    assert line.startswith("WARNING serve: the server has no workers (--workers 0): ")


@pytest.mark.parametrize("command", [["serve", "--port", 0], ["worker"]])
async def test_start_waits_for_a_store_that_is_not_there_yet(
    feedsvc: Feedsvc, tmp_path: Path, command: list[object]
) -> None:
    node = Node(tmp_path / "store", "--requirepass", "s3cret")
    arguments = (*command, "--redis-url", node.url.replace("//", "//:s3cret@"), "--wait", "5m")
    async with started(feedsvc, *arguments) as process:
        try:
            assert await lines_until(process, "waiting") == [
                (
                    "INFO store_waiting: waiting up to 300 s: the store "
                    f"{node.url.removeprefix('redis://')} cannot be reached (the connection is "
                    "refused): is it running, and is --redis-url right?"
                )
            ]
            await node.start()
            lines = await lines_until(process, "try next")
        finally:
            await node.stop()
    assert not [line for line in lines if "waiting" in line]


async def test_start_waits_for_a_store_that_loads_its_data(
    feedsvc: Feedsvc, tmp_path: Path
) -> None:
    # The store takes a millisecond to load each command after its restart, and answers others
    # after every 1,024 commands.
    node = Node(tmp_path / "store", "--appendonly", "yes", "--key-load-delay", "1000")
    await node.start()
    try:
        pipeline = node.redis.pipeline(transaction=False)
        for number in range(30_000):
            pipeline.rpush("list", number)
        await pipeline.execute()
        await node.redis.config_set("appendfsync", "always")
        node.process.kill()
        node.process.launch()
        arguments = ("serve", "--port", 0, "--redis-url", node.url, "--wait", "5m")
        async with started(feedsvc, *arguments) as process:
            lines = await lines_until(process, "loading its data")
            await node.redis.config_set("key-load-delay", 0)
            lines += await lines_until(process, "serving on")
    finally:
        await node.stop()
    waits = [line for line in lines if "waiting" in line]
    assert len(waits) == len({line.partition(" s: ")[2] for line in waits})


async def test_wait_ends_with_the_cause_and_its_length(feedsvc: Feedsvc) -> None:
    node = f"127.0.0.1:{find_free_port()}"
    url = f"redis://:s3cret@{node}"
    ran = await feedsvc("serve", "--port", 0, "--redis-url", url, "--wait", "1s")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        f"Error: the store {node} cannot be reached (the connection is refused): is it running, "
        "and is --redis-url right? (waited 1 s for it)"
    )
    assert "s3cret" not in ran.err


async def test_wrong_password_and_unfit_store_end_a_wait_at_once(
    feedsvc: Feedsvc, tmp_path: Path
) -> None:
    """With a wait the command would take longer than a test may."""
    node = Node(tmp_path / "store", "--requirepass", "right")
    await node.start()
    try:
        url = node.url.replace("//", "//:wrong@")
        ran = await feedsvc("serve", "--port", 0, "--redis-url", url, "--wait", "1h")
        assert ran.err == (
            "Error: the store refuses the user or password: give the right ones in --redis-url\n"
        )
        async with Redis.from_url(node.url, password="right") as redis:  # noqa: S106 (made up)
            await redis.config_set("maxmemory-policy", "allkeys-lru")
        url = node.url.replace("//", "//:right@")
        ran = await feedsvc("worker", "--redis-url", url, "--wait", "1h")
        assert "run `CONFIG SET maxmemory-policy noeviction` on the store" in ran.err
    finally:
        await node.stop()


@pytest.mark.parametrize("command", [["serve", "--port", 0], ["worker"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_a_wait(
    feedsvc: Feedsvc, command: list[object], number: signal.Signals
) -> None:
    url = f"redis://127.0.0.1:{find_free_port()}"
    async with started(feedsvc, *command, "--redis-url", url, "--wait", "1h") as process:
        await lines_until(process, "waiting")
        process.send_signal(number)
        ran = await ended(process)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.endswith("stopped while starting\n")


async def test_address_that_the_machine_does_not_have_is_named(
    feedsvc: Feedsvc, tmp_path: Path
) -> None:
    ran = await feedsvc("serve", "--host", "203.0.113.1", "--data-dir", tmp_path)
    assert (ran.code, ran.err) == (
        1,
        (
            "Error: cannot listen on 203.0.113.1:50051: this machine does not have the address "
            "203.0.113.1: give one of its own in --host, for example 127.0.0.1 or 0.0.0.0\n"
        ),
    )


async def test_ipv6_server_names_its_address_in_brackets(feedsvc: Feedsvc, tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    arguments = ("serve", "--host", "::1", "--port", 0, "--data-dir", tmp_path)
    async with started(feedsvc, *arguments) as process:
        (line,) = await lines_until(process, "serving on")
        address = line.rpartition(" ")[2]
        assert address.startswith("[::1]:")
        async with FeedClient.connect(address) as client:
            assert [page.items async for page in client.pages("alice")] == [[]]
