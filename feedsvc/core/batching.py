"""Batches: commands that callers issue while a batch is in flight leave together as the next batch.

One system call and one pass of the event loop serve many commands. Callers take turns: a batch
holds a few commands of each caller and takes the store at most a few milliseconds. If a caller with
hundreds of waiting commands is not the only caller, a batch takes about one millisecond. So that
caller delays a caller with a single command by a batch or two.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

Arg = str | bytes | int | float
Command = tuple[Arg, ...]

#: Most commands that leave together.
BATCH = 256
#: Most cost of a batch, and most cost of the commands that one caller sends in its turn; the last
#: command may exceed both. The cost of a command is the number of its arguments plus the cost that
#: its caller adds; a cost of 100 takes the store about 0.4 ms.
BATCH_COST, TURN_COST = 800, 100
#: The cost up to which callers with much to send may fill a batch while other callers are active.
SHARED_COST = 250
#: Seconds for which a caller is active after its last command.
ACTIVE_SECONDS = 0.1
#: Turns of the event loop for which a batch is collected if the last batch had several commands,
#: and seconds after which a batch of several callers leaves in any case.
TURNS, COLLECTING_SECONDS = 6, 0.0005

CALLER: ContextVar[object] = ContextVar("caller", default=None)
"""The caller on whose behalf the current task works: callers take turns. None: the service."""


_Waiting = tuple[Command, asyncio.Future[Any], int]
"""A command, its answer, its cost."""


class Batcher:
    """Collects commands into batches, one of which is in flight at a time."""

    def __init__(
        self,
        send: Callable[[list[Command]], Awaitable[list[Any]]],
        translate: Callable[[BaseException], BaseException],
    ) -> None:
        """``send`` exchanges a batch for its answers, among them the errors of single commands.

        ``translate`` returns the error that a caller sees in place of the store's.
        """
        self._send = send
        self._translate = translate
        self._queues: dict[object, deque[_Waiting]] = {}
        """Waiting commands by caller, in the order in which they were issued."""
        self._newcomers: deque[object] = deque()
        """Callers that had no waiting command before: they go first, once."""
        self._turns: deque[object] = deque()
        """The other callers with waiting commands; the first is the next to have its turn."""
        self._sender: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._busy = False
        self._last_caller: object = None
        self._others_seen = -ACTIVE_SECONDS
        """When the caller last changed."""
        self.sent = 0
        """Number of batches sent so far."""

    def call(self, command: Command, cost: int = 0) -> asyncio.Future[Any]:
        """Send a command with one of the next batches; ``cost`` is its cost beside its arguments.

        Commands of one caller leave in the order in which they were issued. A command whose answer
        is cancelled before it leaves does not leave.
        """
        if self._loop is None:  # get_running_loop() asks the system for the process id each time
            self._loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = self._loop.create_future()
        caller = CALLER.get()
        if caller is not None and caller != self._last_caller:
            if self._last_caller is not None:
                self._others_seen = time.monotonic()
            self._last_caller = caller
        queue = self._queues.get(caller)
        if queue is None:
            queue = self._queues[caller] = deque()
            self._newcomers.append(caller)
        queue.append((command, answer, cost + len(command)))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return answer

    async def until_free(self) -> None:
        """Wait for the end of the batch in flight: a command sent then leaves with the next."""
        await self._free.wait()

    async def close(self) -> None:
        """Send and answer nothing any more."""
        if self._sender is not None:
            self._sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        for queue in self._queues.values():  # commands that were not sent get no answer
            for _, answer, _ in queue:
                answer.cancel()
        self._queues.clear()

    async def _send_all(self) -> None:
        while self._queues:
            await self._collect()
            batch = self._next_batch()
            if not batch:
                continue
            self._busy = len(batch) > 1
            self.sent += 1
            self._free.clear()
            try:
                answers = await self._send([command for command, _, _ in batch])
            except BaseException as error:
                for _, answer, _ in batch:
                    if not answer.done():
                        answer.set_exception(self._translate(error))
                if not isinstance(error, Exception):
                    raise
                continue
            finally:
                self._free.set()
            self._hand_out(batch, answers)

    async def _collect(self) -> None:
        """Wait for callers that the last answers woke, or that are about to send."""
        began = time.monotonic()
        for _ in range(TURNS if self._busy else 1):
            await asyncio.sleep(0)
            # No caller waits for the work that others do between two commands.
            if len(self._queues) > 1 and time.monotonic() - began > COLLECTING_SECONDS:
                return

    def _hand_out(self, batch: list[_Waiting], answers: list[Any]) -> None:
        for (_, answer, _), value in zip(batch, answers, strict=True):
            if answer.done():  # its caller was cancelled
                continue
            if isinstance(value, Exception):
                answer.set_exception(self._translate(value))
            else:
                answer.set_result(value)

    def _next_batch(self) -> list[_Waiting]:
        """Return the commands of the next batch: a few of each caller, in turn."""
        batch: list[_Waiting] = []
        remaining = BATCH_COST
        is_shared = time.monotonic() - self._others_seen < ACTIVE_SECONDS
        reserved = BATCH_COST - SHARED_COST if is_shared else 0  # for newcomers
        while (
            len(batch) < BATCH and remaining > (0 if self._newcomers else reserved) and self._queues
        ):
            caller = (self._newcomers or self._turns).popleft()
            queue, turn_remaining = self._queues[caller], TURN_COST
            while queue and turn_remaining > 0 and remaining > 0 and len(batch) < BATCH:
                waiting = queue.popleft()
                _, answer, cost = waiting
                if answer.done():  # its caller was cancelled
                    continue
                batch.append(waiting)
                turn_remaining -= cost
                remaining -= cost
            if queue:
                self._turns.append(caller)
            else:
                del self._queues[caller]
        return batch
