"""The option ``--server``: addresses that are wrong, and addresses where something else listens."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

import click
import grpc
import grpc.aio
import pytest
from activityfeed import FeedClient
from activityfeed.client import DEFAULT_SECONDS

from feedsvc.cli import cli, connection
from feedsvc.cli.server_address import BadAddress, check
from tests.serving import Service
from tests.stores import Store

from .conftest import Feedsvc

NOT_FEEDSVC = (
    "what answers at {server} is not feedsvc: it is {kind}; "
    "name the address of feedsvc with --server"
)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "is empty: write HOST:PORT, for example 127.0.0.1:50051"),
        (" ", "is empty: write HOST:PORT, for example 127.0.0.1:50051"),
        ("http://127.0.0.1:50051", "write HOST:PORT without http://: 127.0.0.1:50051"),
        ("http://box:1/path", "write HOST:PORT without http://: box:1"),
        ("http://box", "write HOST:PORT without http://: 127.0.0.1:50051"),
        ("https://box:1", "write HOST:PORT without https://: box:1: commands do not use TLS"),
        ("redis://box:6379", "write HOST:PORT without redis://: box:6379"),
        ("localhost", "add the port, for example localhost:50051"),
        ("dns:///localhost", "add the port, for example localhost:50051"),
        ("50051", "add the host, for example 127.0.0.1:50051"),
        (":50051", "add the host, for example 127.0.0.1:50051"),
        ("localhost:", "add the port after the colon, for example 50051"),
        ("localhost:http", "the port must be a number from 1 to 65535, not 'http'"),
        ("localhost:0", "the port must be a number from 1 to 65535, not '0'"),
        ("localhost:65536", "the port must be a number from 1 to 65535, not '65536'"),
        ("localhost:" + "1" * 5_000, "the port must be a number from 1 to 65535, not '1"),
        ("localhost:-1", "the port must be a number from 1 to 65535, not '-1'"),
        ("localhost:5³", "the port must be a number from 1 to 65535, not '5³'"),
        ("localhost:50051/", "write HOST:PORT without a path: localhost:50051"),
        ("::1", "write an IPv6 address in brackets, with the port: [::1]:50051"),
        ("::1:50051", "write an IPv6 address in brackets: [::1]:50051"),
        ("fe80::1%eth0:1", "write an IPv6 address in brackets: [fe80::1%eth0]:1"),
        ("[::1]", "add the port, for example [::1]:50051"),
        ("[::1", "'[::1' is no IPv6 address in brackets such as [::1]:50051"),
        ("[box]:1", "'[box]:1' is no IPv6 address in brackets such as [::1]:50051"),
        ("a:1:2", "'a:1:2' is not HOST:PORT such as 127.0.0.1:50051"),
        ("a b:1", "'a b:1' is not HOST:PORT such as 127.0.0.1:50051"),
        ("user@box:1", "'user@box:1' is not HOST:PORT such as 127.0.0.1:50051"),
        ("unix:", "names nothing after unix:"),
        ("unix:///", "names nothing after unix:"),
    ],
)
def test_a_wrong_address_is_refused_with_what_to_write(address: str, message: str) -> None:
    with pytest.raises(BadAddress) as caught:
        check(address)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) == len(message) or len(address) > 100


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:50051", "127.0.0.1:1", "a-b_c.example:65535", "[::1]:50051"),
        *("dns:///localhost:50051", "dns:localhost:50051", "dns://8.8.8.8/localhost:50051"),
        *("unix:///run/feedsvc.sock", "unix:relative.sock", "unix-abstract:name"),
        *("ipv4:127.0.0.1:50051", "ipv6:[::1]:50051", "dns:50051"),
    ],
)
def test_addresses_that_grpc_takes_are_taken(address: str) -> None:
    assert check(f" {address}\n") == address


async def test_a_wrong_address_is_a_wrong_option(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("feed", "bob", "--server", "http://box:1")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == (
        "Error: Invalid value for '--server' (env var: 'FEEDSVC_SERVER'): "
        "write HOST:PORT without http://: box:1"
    )


@pytest.mark.parametrize("form", ["dns:///127.0.0.1:{port}", "ipv4:127.0.0.1:{port}"])
async def test_a_command_calls_a_server_by_a_target_of_grpc(
    service: Service, feedsvc: Feedsvc, form: str
) -> None:
    target = form.format(port=service.server.port)
    ran = await feedsvc("publish", "alice", "post", "--server", target)
    assert (ran.code, ran.err) == (0, "")


async def test_an_unknown_host_is_named(feedsvc: Feedsvc) -> None:
    ran = await feedsvc("feed", "bob", "--server", "nohost.invalid:50051")
    assert (ran.code, ran.err) == (
        1,
        "Error: the host name nohost.invalid does not resolve: check --server\n",
    )


async def run_each(server: str) -> list[tuple[int, str]]:
    """Run a command that reads and a command that writes; return their statuses and errors.

    The commands try the server for seconds, so they do it at the same time.
    """
    feedsvc = Feedsvc(server)
    commands = (("feed", "bob"), ("publish", "alice", "post"))
    return [
        (ran.code, ran.err)
        for ran in await asyncio.gather(*(feedsvc(*words) for words in commands))
    ]


async def test_an_address_without_a_server_says_how_to_start_one() -> None:
    targets = ("127.0.0.1:1", "unix:/no/such/socket", "dns:///127.0.0.1:1")
    for target, ends in zip(targets, await asyncio.gather(*map(run_each, targets)), strict=True):
        error = (
            f"Error: no server answers at {target}: start one with `feedsvc serve`, "
            "or name another with --server\n"
        )
        assert ends == [(1, error)] * 2


@asynccontextmanager
async def http_server() -> AsyncIterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@asynccontextmanager
async def socket_server(greeting: bytes, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    greetings: set[asyncio.Task[Any]] = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greetings.add(task := cast("asyncio.Task[Any]", asyncio.current_task()))
        try:
            writer.write(greeting)
            await reader.read()
        finally:
            writer.close()
            greetings.discard(task)

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        # A connection of this process closes later than its call.
        for task in greetings:
            task.cancel()
        await asyncio.gather(*greetings, return_exceptions=True)


def tls_server() -> AbstractAsyncContextManager[int]:
    """Return a TLS server without a certificate: TLS 1.2 has ciphers that need none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return socket_server(b"", context)


def ssh_server() -> AbstractAsyncContextManager[int]:
    return socket_server(b"SSH-2.0-OpenSSH_9.9\r\n", None)


async def test_a_server_of_another_protocol_is_named() -> None:
    async with http_server() as http, ssh_server() as ssh:
        kinds = {f"127.0.0.1:{http}": "an HTTP server", f"127.0.0.1:{ssh}": "something else"}
        ends = await asyncio.gather(*map(run_each, kinds))
    assert ends == [
        [(1, f"Error: {NOT_FEEDSVC.format(server=server, kind=kind)}\n")] * 2
        for server, kind in kinds.items()
    ]


async def test_a_tls_server_is_named(feedsvc: Feedsvc) -> None:
    async with tls_server() as port:
        ran = await feedsvc("feed", "bob", "--server", f"127.0.0.1:{port}")
    assert (ran.code, ran.err) == (
        1,
        (
            f"Error: what answers at 127.0.0.1:{port} is not feedsvc: it is a TLS server, "
            "and commands do not use TLS; name the address of feedsvc with --server\n"
        ),
    )


async def test_a_store_is_named(feedsvc: Feedsvc, store: Store) -> None:
    server = "unix:" + store.url.removeprefix("unix://")
    ran = await feedsvc("feed", "bob", "--server", server)
    assert ran.err == (
        f"Error: {NOT_FEEDSVC.format(server=server, kind='a Redis or Valkey store')}\n"
    )


async def test_another_service_on_grpc_is_named(feedsvc: Feedsvc) -> None:
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    try:
        ran = await feedsvc("feed", "bob", "--server", f"127.0.0.1:{port}")
    finally:
        await other.stop(None)
    assert (ran.code, ran.err) == (
        1,
        (
            f"Error: what answers at 127.0.0.1:{port} is not feedsvc, or is an older feedsvc: "
            "it is a gRPC server that does not know this call\n"
        ),
    )


async def test_a_server_that_never_answers_is_given_up_after_the_named_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DEFAULT_SECONDS == 10
    defaults = FeedClient.connect.__kwdefaults__ or {}
    assert defaults["timeout"] == DEFAULT_SECONDS
    assert connection._no_answer("box:1", DEFAULT_SECONDS) == (
        "the server at box:1 did not answer within 10 seconds: try again"
    )
    monkeypatch.setitem(defaults, "timeout", 0.2)
    monkeypatch.setattr(connection, "DEFAULT_SECONDS", 0.2)
    async with socket_server(b"", None) as port:
        for words in (["feed", "bob"], ["publish", "alice", "post"]):
            arguments = [*words, "--server", f"127.0.0.1:{port}"]
            with pytest.raises(click.ClickException) as caught:
                await asyncio.to_thread(cli.main, arguments, standalone_mode=False)
            assert (caught.value.exit_code, caught.value.message) == (
                1,
                f"the server at 127.0.0.1:{port} did not answer within 0.2 seconds: try again",
            )


async def test_a_proxy_between_command_and_server_is_named(
    service: Service, feedsvc: Feedsvc
) -> None:
    ran = await feedsvc(
        "feed", "bob", environment={"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    )
    assert (ran.code, ran.err) == (
        1,
        (
            f"Error: no answer from {feedsvc.server} through the proxy of $http_proxy: "
            "set no_proxy=127.0.0.1 if the server needs no proxy\n"
        ),
    )
