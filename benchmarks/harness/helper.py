"""Helpers: processes that make load, and obey the commands of a scenario."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

from feedsvc.cli.load_test.child import Child

Command = tuple[str, tuple[Any, ...]]
Pipe = Connection
"""The helper's end of its pipe: it reads commands and writes answers."""


class Helper:
    """A helper, as a scenario sees it."""

    def __init__(self, run: Callable[[str, Pipe], None], target: str) -> None:
        """``run`` is the helper's program; ``target`` is the server that it calls."""
        self._name = run.__module__
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._has_died = False
        self.child: Child[Command, Any] = Child(run, target, hear=self._hear, died=self._died)

    async def ask(self, command: str, *arguments: Any) -> Any:
        """Return the helper's answer to a command. Raise RuntimeError if the helper died."""
        if self._has_died:
            raise RuntimeError(f"{self._name} failed")
        self._answer = asyncio.get_running_loop().create_future()
        self.child.send((command, arguments))
        return await self._answer

    def _hear(self, answer: Any) -> None:
        self._answer.set_result(answer)

    def _died(self) -> None:
        self._has_died = True
        if not self._answer.done():
            self._answer.set_exception(RuntimeError(f"{self._name} failed"))
            self._answer.exception()  # else asyncio may log that no task has read the error


@asynccontextmanager
async def open_helper(run: Callable[[str, Pipe], None], target: str) -> AsyncIterator[Helper]:
    """Start a helper whose program calls `obey`, and end it with the context."""
    helper = Helper(run, target)
    try:
        helper.child.start()
        yield helper
    finally:
        helper.child.hang_up()
        await helper.child.join()


async def obey(pipe: Pipe, do: Callable[..., Awaitable[Any]]) -> None:
    """Carry out commands in the helper, one after the other, until the scenario hangs up."""
    while True:
        try:
            command, arguments = await asyncio.to_thread(pipe.recv)
        except EOFError:
            return
        pipe.send(await do(command, *arguments))
