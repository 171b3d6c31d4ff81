"""Batches: commands that are issued while a batch is in flight leave together as the next one.

One system call and one pass of the event loop serve many commands.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

Arg = str | bytes | int | float
Command = tuple[Arg, ...]

#: Commands that leave together at the most.
BATCH = 256
#: Turns of the event loop for which a batch is collected when several callers are about.
TURNS = 6


class Batcher:
    """Collects commands into batches, one of which is in flight at a time."""

    def __init__(
        self,
        send: Callable[[list[Command]], Awaitable[list[Any]]],
        translate: Callable[[BaseException], BaseException],
    ) -> None:
        """``send`` exchanges a batch for its answers, among them the errors of single commands.

        ``translate`` makes of the store's error what a caller is to see.
        """
        self._send = send
        self._translate = translate
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._busy = False
        self.sent = 0
        """Batches sent so far."""

    def call(self, command: Command) -> asyncio.Future[Any]:
        """Sends a command with the next batch; commands leave in the order they were issued in."""
        if self._loop is None:  # asked for each time, it would ask the system for the process
            self._loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((command, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return answer

    async def until_free(self) -> None:
        """Waits for the end of the batch in flight: what is sent then leaves with the next."""
        await self._free.wait()

    async def close(self) -> None:
        """Sends and answers no more."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        while self._waiting:  # what was not sent is not answered any more
            self._waiting.popleft()[1].cancel()

    async def _send_all(self) -> None:
        while self._waiting:
            # Those whom the last answers woke, or who are about to ask, are in this batch too.
            for _ in range(TURNS if self._busy else 1):
                await asyncio.sleep(0)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._busy = len(batch) > 1
            self.sent += 1
            self._free.clear()
            try:
                answers = await self._send([command for command, _ in batch])
            except BaseException as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(self._translate(error))
                if not isinstance(error, Exception):
                    raise
                continue
            finally:
                self._free.set()
            for (_, answer), value in zip(batch, answers, strict=True):
                if answer.done():  # its caller was cancelled
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(self._translate(value))
                else:
                    answer.set_result(value)
