"""The command line as a shell runs it, `feedsvc(...)`, with the test's own server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from activityfeed import FeedClient

from tests.harness.command_process import start_command, start_interpreter
from tests.serving import TIMEOUT_SECONDS, Service


@dataclass(frozen=True)
class Ran:
    """The exit status and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """The values that the command printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Feedsvc:
    """A runner of commands that call one server.

    With `forked=False` each command is a new interpreter: for tests of the start and of the end.
    """

    def __init__(self, server: str, *, forked: bool = True) -> None:
        self.server = server
        self._start = start_command if forked else start_interpreter

    async def start(
        self, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Start a command."""
        return await self._start(
            [argument if isinstance(argument, bytes) else str(argument) for argument in arguments],
            os.environ | {"FEEDSVC_SERVER": self.server} | dict(environment or {}),
        )

    async def __call__(
        self,
        *arguments: object,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command to its end."""
        process = await self.start(*arguments, environment=environment)
        return await ended(process, stdin)


async def ended(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Ran:
    """Wait for the end of a command. Kill it and raise TimeoutError if it takes too long."""
    try:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def feedsvc(service: Service) -> Feedsvc:
    return Feedsvc(f"127.0.0.1:{service.server.port}")


@pytest.fixture
async def client(service: Service) -> AsyncIterator[FeedClient]:
    async with FeedClient.connect(f"127.0.0.1:{service.server.port}") as client:
        yield client
