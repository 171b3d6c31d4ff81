"""Connections of client commands: their options, their calls, and their errors in words."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import grpc
import grpc.aio
from activityfeed import FeedClient, reason, violations
from activityfeed.client import DEFAULT_SECONDS, OPTIONS
from google.protobuf.json_format import MessageToJson, SerializeToJsonError
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from feedsvc.cli import server_address
from feedsvc.cli.diagnosis import diagnose
from feedsvc.cli.rendering import plain
from feedsvc.cli.standard_streams import check_stdout

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Seconds after which `check_connection` gives up a server that refuses connections: long enough
#: for a server that restarts.
REFUSED_SECONDS = 2.0


class CallFailed(click.ClickException):
    """A failed call, in words; ``error`` is gRPC's."""

    def __init__(self, message: str, error: grpc.aio.AioRpcError) -> None:
        super().__init__(message)
        self.error = error


def server_option(command: _Command) -> _Command:
    """Add the option ``--server`` to a command."""
    return click.option(
        "--server",
        envvar="FEEDSVC_SERVER",
        default="127.0.0.1:50051",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        callback=_check_address,
        help="Address of the server to call.",
    )(command)


def json_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the option ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def echo_json(message: Message, *, with_defaults: bool = False) -> None:
    """Print a message as one line of JSON; ``with_defaults`` prints zeros and empty fields too.

    Raise ClickException if JSON has no form for a value of the message.
    """
    try:
        text = MessageToJson(
            message, indent=None, always_print_fields_with_no_presence=with_defaults
        )
    except (SerializeToJsonError, ValueError) as error:
        raise click.ClickException(f"the answer has no form in JSON: {error}") from None
    click.echo(text)


def call_server(
    server: str, work: Callable[[FeedClient], Awaitable[_T]], **connect_options: Any
) -> _T:
    """Run ``work`` with a client of the server and return its result.

    ``connect_options`` are arguments of ``FeedClient.connect``. Raise OutputFailed before any call
    if stdout is closed, and CallFailed if a call fails.
    """
    check_stdout()

    async def work_with_client() -> _T:
        if not os.environ.get("FEEDSVC_DEBUG"):
            # A task of gRPC that Ctrl-C cancels would have its traceback printed.
            asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        async with FeedClient.connect(server, **connect_options) as client:
            return await work(client)

    try:
        return asyncio.run(work_with_client())
    except grpc.aio.AioRpcError as error:
        seconds = connect_options.get("timeout", DEFAULT_SECONDS)
        raise CallFailed(explain(error, server, seconds=seconds), error) from None


async def check_connection(server: str) -> None:
    """Connect to a server. Raise ClickException if that fails: no call has reached a server then.

    A failed call alone cannot say so, because gRPC itself repeats calls whose connection broke.
    """
    # FeedClient's channels use this connection too: gRPC shares it by its options.
    async with grpc.aio.insecure_channel(server, OPTIONS) as channel:
        deadline = time.monotonic() + DEFAULT_SECONDS
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                deadline = min(deadline, time.monotonic() + REFUSED_SECONDS)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await channel.wait_for_state_change(state)
            except TimeoutError:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise click.ClickException(diagnose(server)) from None
                raise click.ClickException(_no_answer(server, DEFAULT_SECONDS)) from None
            state = channel.get_state(try_to_connect=True)


def explain(error: grpc.aio.AioRpcError, server: str, *, seconds: float | None = None) -> str:
    """Return one line that says why a call failed and what to do.

    ``seconds``: the time that the call had. If gRPC reached no service, connect to the address once
    more to see what answers there.
    """
    if reason(error):
        return error_text(error)
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return diagnose(server)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return _no_answer(server, seconds)
        case grpc.StatusCode.UNIMPLEMENTED:
            return (
                f"what answers at {server} is not feedsvc, or is an older feedsvc: "
                "it is a gRPC server that does not know this call"
            )
    return error_text(error)


def _no_answer(server: str, seconds: float | None) -> str:
    limit = "in time" if seconds is None else f"within {seconds:g} seconds"
    return f"the server at {server} did not answer {limit}: try again"


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


def _check_address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return server_address.check(value)
    except server_address.BadAddress as error:
        raise click.BadParameter(str(error)) from None
