"""What all client commands share: where the server is, and what becomes of its errors."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import grpc
import grpc.aio
from activityfeed import FeedClient, reason, violations
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from feedsvc.cli.show import plain

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: What a shell reports for a program that Ctrl-C ended.
INTERRUPTED = 130


def server_option(command: _Command) -> _Command:
    return click.option(
        "--server",
        envvar="FEEDSVC_SERVER",
        default="127.0.0.1:50051",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        help="The server to call.",
    )(command)


def json_option(help_text: str) -> Callable[[_Command], _Command]:
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def talk(server: str, work: Callable[[FeedClient], Awaitable[_T]], **how: Any) -> _T:
    """Runs ``work`` with a client; ``how`` is for its ``connect``.

    A failed call becomes one line, and Ctrl-C is quiet.
    """

    async def connected() -> _T:
        async with FeedClient.connect(server, **how) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except grpc.aio.AioRpcError as error:
        raise click.ClickException(explain(error, server)) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def explain(error: grpc.aio.AioRpcError, server: str) -> str:
    """One helpful line about a failed call."""
    if not reason(error):
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {server}: start one with `feedsvc serve`, "
                "or name another with --server"
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"the server at {server} did not answer in time"
    return told(error)


def told(error: grpc.aio.AioRpcError | Status) -> str:
    """What the service says of a refused call, or of a refused entry of a batch, in one line."""
    message = error.message if isinstance(error, Status) else error.details()
    if bad := violations(error):
        message = "; ".join(f"{v.field or 'the request'}: {v.description}" for v in bad)
    return f"{plain(message or 'no message')} ({label(error)})"


def label(error: grpc.aio.AioRpcError | Status) -> str:
    """The error's reason, or the name of its code if it has none."""
    if name := reason(error):
        return name
    code: str = Code.Name(error.code) if isinstance(error, Status) else error.code().name
    return code
