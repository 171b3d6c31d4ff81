"""Connections of client commands: their options, their calls, and their errors in words."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import grpc
import grpc.aio
from activityfeed import FeedClient, reason, violations
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from feedsvc.cli.rendering import plain

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Exit status after Ctrl-C, as shells report it.
INTERRUPTED = 130


def server_option(command: _Command) -> _Command:
    """Add the option ``--server`` to a command."""
    return click.option(
        "--server",
        envvar="FEEDSVC_SERVER",
        default="127.0.0.1:50051",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        help="Address of the server to call.",
    )(command)


def json_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the option ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def echo_json(message: Message, *, with_defaults: bool = False) -> None:
    """Print a message as one line of JSON; ``with_defaults`` prints zeros and empty fields too."""
    click.echo(
        MessageToJson(message, indent=None, always_print_fields_with_no_presence=with_defaults)
    )


def call_server(
    server: str, work: Callable[[FeedClient], Awaitable[_T]], **connect_options: Any
) -> _T:
    """Run ``work`` with a client of the server and return its result.

    ``connect_options`` are arguments of ``FeedClient.connect``. A failed call ends the command with
    one line on stderr and status 1. Ctrl-C ends the command with status 130, and prints nothing.
    """

    async def work_with_client() -> _T:
        async with FeedClient.connect(server, **connect_options) as client:
            return await work(client)

    try:
        return asyncio.run(work_with_client())
    except grpc.aio.AioRpcError as error:
        raise click.ClickException(explain(error, server)) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def explain(error: grpc.aio.AioRpcError, server: str) -> str:
    """Return one line that says why a call failed and what to do."""
    if not reason(error):
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {server}: start one with `feedsvc serve`, "
                "or name another with --server"
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"the server at {server} did not answer in time: try again"
    return error_text(error)


def error_text(error: grpc.aio.AioRpcError | Status) -> str:
    """Return one line with the service's message about a refused call or entry of a batch."""
    message = error.message if isinstance(error, Status) else error.details()
    if field_violations := violations(error):
        message = "; ".join(
            f"{violation.field or 'the request'}: {violation.description}"
            for violation in field_violations
        )
    return f"{plain(message or 'no message')} ({label(error)})"


def label(error: grpc.aio.AioRpcError | Status) -> str:
    """Return the error's reason, or the name of its status code if it has no reason."""
    if name := reason(error):
        return name
    code: str = Code.Name(error.code) if isinstance(error, Status) else error.code().name
    return code
