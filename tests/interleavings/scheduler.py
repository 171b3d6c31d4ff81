"""Runs operations together on a real store in every order of their store calls.

Each operation stops before each of its calls; the scheduler lets one call through at a time.
All sequences of choices together are all interleavings, up to a number of interruptions.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hiredis import pack_command
from redis import Redis
from redis.exceptions import ResponseError

from feedsvc.core.batching import Command
from feedsvc.core.store import Arg, Store
from feedsvc.core.store_errors import translated

Operation = Callable[[], Awaitable[Any]]

#: Turns of the event loop after which an operation that does not wait for the store is stuck.
PATIENCE = 2_000


@dataclass(eq=False)
class Running:
    """An operation that has begun."""

    task: "asyncio.Task[Any] | None" = None
    pending: deque[tuple[tuple[Arg, ...], "asyncio.Future[Any]"]] = field(default_factory=deque)
    calls: int = 0

    @property
    def done(self) -> bool:
        assert self.task is not None
        return self.task.done() and not self.pending


_current: ContextVar[Running | None] = ContextVar("running", default=None)


class Line:
    """A connection to the store that blocks the event loop until the store answers.

    The scheduler lets nothing else run meanwhile anyway, and tens of thousands of interleavings
    need no event loop, no batches and no greetings.
    """

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url, protocol=2)
        self._connection = self.redis.connection_pool.get_connection()

    def close(self) -> None:
        self.redis.connection_pool.release(self._connection)
        self.redis.close()

    def ask(self, *commands: Command) -> list[Any]:
        """Return the answers to commands, among them the errors of single commands."""
        return self.ask_packed(packed(*commands), len(commands))

    def ask_packed(self, commands: bytes, count: int) -> list[Any]:
        """Return the answers to a number of packed commands, as `ask` does."""
        self._connection.send_packed_command([commands], check_health=False)
        answers: list[Any] = []
        while len(answers) < count:
            try:
                answers.append(self._connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers


def packed(*commands: Command) -> bytes:
    """Return commands as they are sent."""
    return b"".join(map(pack_command, commands))


class GatedStore(Store):
    """A store whose calls wait for the scheduler if an operation of the scheduler makes them."""

    line: Line | None = None
    """The way of all calls after the store was opened."""

    def call(self, *command: Arg, cost: int = 0) -> "asyncio.Future[Any]":
        if self.line is None:
            return super().call(*command, cost=cost)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        running = _current.get()
        if running is None:
            self._exchange(command, answer)
        else:
            running.pending.append((command, answer))
        return answer

    async def greet_again(self) -> None:
        await self.call("TIME")  # for the scheduler, the greeting is one call
        await self._greet(self._ask)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        assert self.line is not None
        return self.line.ask(*commands)

    def let_through(self, running: Running) -> None:
        """Send the oldest call that an operation waits for, and hand it the answer."""
        running.calls += 1
        self._exchange(*running.pending.popleft())

    def _exchange(self, command: Command, answer: "asyncio.Future[Any]") -> None:
        assert self.line is not None
        (result,) = self.line.ask(command)
        if answer.done():  # the operation was cancelled
            return
        if isinstance(result, Exception):
            answer.set_exception(translated(result))
        else:
            answer.set_result(result)


async def _begin(operation: Operation) -> Running:
    running = Running()
    token = _current.set(running)
    try:
        running.task = asyncio.ensure_future(operation())  # type: ignore[arg-type]
    finally:
        _current.reset(token)
    return running


async def _until_idle() -> None:
    """Wait until the event loop has nothing more to call."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(PATIENCE):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError("the operations never come to rest")


async def _come_to_rest(operations: Sequence[Running]) -> None:
    """Wait until every operation has ended, or waits for the store or for another operation."""
    for _ in range(PATIENCE):
        await _until_idle()
        if any(operation.pending for operation in operations) or all(
            operation.done for operation in operations
        ):
            return
    raise AssertionError("an operation waits for something that is not the store")


class Step(NamedTuple):
    """A call that the scheduler let through."""

    operation: int
    ready: tuple[int, ...]
    """The operations that could go on: first the operation that ran last, if it could."""
    interrupts: bool
    """True if another operation than the last goes on although the last operation could."""


async def run(
    store: GatedStore,
    operations: Sequence[Operation],
    choices: Sequence[int],
    crash: "tuple[int, int] | None" = None,
) -> tuple[list[Step], list[Any]]:
    """Run operations together and return the steps, and what the operations returned or raised.

    ``choices`` are the numbers of the operations whose calls come first. After these, and where
    the chosen operation cannot go on, the operation that ran last goes on, or else the first
    operation that can. ``crash`` names an operation and the number of calls after which its process
    dies: the operation never goes on.
    """
    all_running = [await _begin(operation) for operation in operations]
    steps: list[Step] = []
    last_number = -1
    try:
        while True:
            await _come_to_rest(all_running)
            able_numbers = [
                number
                for number, running in enumerate(all_running)
                if running.pending and (number, running.calls) != crash
            ]
            if not able_numbers:
                break
            ready = tuple(sorted(able_numbers, key=lambda number: number != last_number))
            choice = choices[len(steps)] if len(steps) < len(choices) else ready[0]
            if choice not in ready:
                choice = ready[0]
            steps.append(
                Step(choice, ready, interrupts=choice != last_number and last_number in ready)
            )
            last_number = choice
            store.let_through(all_running[choice])
        tasks = [running.task for running in all_running if running.task is not None]
        results = await asyncio.gather(
            *(task for task in tasks if task.done()), return_exceptions=True
        )
        return steps, list(results)
    finally:
        for running in all_running:
            for _, answer in running.pending:
                answer.cancel()
            if running.task is not None and not running.task.done():
                running.task.cancel()
        await _until_idle()  # what the operations shared, such as a build, ends with them


def order(steps: Sequence[Step]) -> list[int]:
    """Return the numbers of the operations in the order of their calls."""
    return [step.operation for step in steps]


def next_choices(steps: Sequence[Step], interruptions: int) -> list[int] | None:
    """Return the choices of the next interleaving in order, or None after the last.

    Operations interrupt each other at most `interruptions` times. Nearly all bugs show with two
    interruptions (Musuvathi and Qadeer, "Iterative context bounding", 2007), and the number of
    interleavings grows with the calls by a power, not exponentially.
    """
    for last in range(len(steps) - 1, -1, -1):
        step, steps_before = steps[last], steps[:last]
        later_choices = step.ready[step.ready.index(step.operation) + 1 :]
        last_could_go_on = bool(steps_before) and steps_before[-1].operation in step.ready
        interrupted = sum(earlier_step.interrupts for earlier_step in steps_before)
        if later_choices and interrupted + last_could_go_on <= interruptions:
            return [*order(steps_before), later_choices[0]]
    return None
