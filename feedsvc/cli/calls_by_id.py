"""Commands that call the server once for each of several ids."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeVar

import click
import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from feedsvc.cli.connection import error_text
from feedsvc.cli.rendering import plain

#: Most calls that a command has under way at a time.
MAX_CALLS_IN_FLIGHT = 8
#: Status codes that concern one id alone. After another failure the further calls would fail too.
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

_Response = TypeVar("_Response", bound=Message)
_Row = tuple[str, str, str]


class Outcome(Generic[_Response]):
    """The answer for an id, or the service's refusal of it."""

    def __init__(self, called_id: str, response: _Response | None, error: str = "") -> None:
        self.id = called_id
        self.response = response
        self.error = error

    def echo_json(self, id_field: str) -> None:
        """Print one line of JSON: the id, then the message of the contract with all its fields.

        The line of a refused id has ``error`` in place of the message.
        """
        fields = (
            {"error": self.error}
            if self.response is None
            else MessageToDict(self.response, always_print_fields_with_no_presence=True)
        )
        click.echo(json.dumps({id_field: self.id} | fields))


def read_ids(arguments: Sequence[str]) -> list[str]:
    """Return the ids that arguments name. The argument - stands for the lines of standard input.

    Raise UsageError if standard input is not text in UTF-8.
    """
    ids: list[str] = []
    for argument in arguments:
        if argument != "-":
            ids.append(argument)
            continue
        try:
            lines = sys.stdin.buffer.read().decode().splitlines() if sys.stdin else []
        except UnicodeDecodeError:
            raise click.UsageError("standard input is not text in UTF-8") from None
        ids += filter(None, map(str.strip, lines))
    return ids


async def outcomes(
    ids: Iterable[str], call: Callable[[str], Awaitable[_Response]]
) -> AsyncGenerator[Outcome[_Response], None]:
    """Call the server for each id, MAX_CALLS_IN_FLIGHT at a time. Yield the outcomes in order.

    Raise AioRpcError if a call fails for another cause than its id.
    """
    remaining_ids = iter(ids)
    tasks: deque[asyncio.Task[Outcome[_Response]]] = deque()
    try:
        while True:
            for called_id in islice(remaining_ids, MAX_CALLS_IN_FLIGHT - len(tasks)):
                tasks.append(asyncio.create_task(_outcome(called_id, call)))
            if not tasks:
                return
            outcome = await tasks[0]
            tasks.popleft()
            yield outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def echo_refusal(outcome: Outcome[_Response]) -> None:
    """Print on stderr why the service refused an id."""
    click.echo(f"{plain(outcome.id)}: {outcome.error}", err=True)


def echo_rows(name: str, rows: Iterable[_Row]) -> None:
    """Print rows of a name, a value and a note below the name of what they describe."""
    click.echo(plain(name))
    for label, value, note in rows:
        click.echo(f"  {label:<10}  {value:<10}  {note}".rstrip())


async def _outcome(
    called_id: str, call: Callable[[str], Awaitable[_Response]]
) -> Outcome[_Response]:
    try:
        return Outcome(called_id, await call(called_id))
    except grpc.aio.AioRpcError as error:
        if error.code() not in _REFUSALS:
            raise
        return Outcome(called_id, None, error_text(error))
