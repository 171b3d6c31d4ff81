"""Helpers: processes that do what a scenario tells them, by lines of JSON on their pipes."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


class Helper:
    """A helper, as a scenario sees it."""

    def __init__(self, name: str, asked: asyncio.StreamWriter, answers: asyncio.StreamReader):
        self._name = name
        self._asked = asked
        self._answers = answers

    async def ask(self, what: str, *arguments: Any) -> Any:
        """Has it do something; its answer."""
        self._asked.write(json.dumps([what, *arguments]).encode() + b"\n")
        answer = await self._answers.readline()
        if not answer:
            raise RuntimeError(f"{self._name} failed")
        return json.loads(answer)


@asynccontextmanager
async def helper(module: str, *arguments: str) -> AsyncIterator[Helper]:
    """Runs a module that calls ``obey``."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        limit=2**26,  # of a line
        # Ctrl-C on the terminal is for this process, which then ends the others.
        start_new_session=True,
    )
    asked, answers = running.stdin, running.stdout
    if asked is None or answers is None:
        raise RuntimeError("pipes were asked for")
    try:
        yield Helper(module, asked, answers)
    finally:
        asked.close()
        await running.wait()


async def obey(do: Callable[..., Awaitable[Any]]) -> None:
    """In the helper: does one thing after the other, until nobody asks any more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(json.dumps(await do(*json.loads(line))) + "\n")
        sys.stdout.flush()
