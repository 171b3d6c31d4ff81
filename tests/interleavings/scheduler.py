"""Runs operations together on a real store in every order of their store calls.

Each operation is stopped before each of its calls; the scheduler lets one call through at a time.
Trying every sequence of choices tries every interleaving, of so many interruptions at the most.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from feedsvc.core.store import Arg, Store

Operation = Callable[[], Awaitable[Any]]

#: Turns of the event loop after which an operation that is still not waiting for the store is
#: stuck.
PATIENCE = 2_000


@dataclass(eq=False)
class Running:
    """An operation on its way."""

    task: "asyncio.Task[Any] | None" = None
    pending: deque[tuple[tuple[Arg, ...], "asyncio.Future[Any]"]] = field(default_factory=deque)
    calls: int = 0

    @property
    def done(self) -> bool:
        assert self.task is not None
        return self.task.done() and not self.pending


_current: ContextVar[Running | None] = ContextVar("running", default=None)


class GatedStore(Store):
    """A store whose calls wait for the scheduler, if they come from one of its operations."""

    def call(self, *command: Arg, cost: int = 0) -> "asyncio.Future[Any]":
        running = _current.get()
        if running is None:
            return super().call(*command, cost=cost)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        running.pending.append((command, answer))
        return answer

    async def let_through(self, running: Running) -> None:
        """Sends the oldest call that an operation waits for, and hands it the answer."""
        command, answer = running.pending.popleft()
        running.calls += 1
        try:
            result = await super().call(*command)
        except Exception as error:  # noqa: BLE001 (the operation is to see it)
            answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)


async def _begin(operation: Operation) -> Running:
    running = Running()
    token = _current.set(running)
    try:
        running.task = asyncio.ensure_future(operation())  # type: ignore[arg-type]
    finally:
        _current.reset(token)
    return running


async def _come_to_rest(all_running: Sequence[Running]) -> None:
    """Until every operation has ended or waits for the store, with all sent that it has to.

    One may also wait for another, whose build it has joined: then nothing moves for a while.
    """
    quiet = 0
    for _ in range(PATIENCE):
        before = [(one.done, len(one.pending)) for one in all_running]
        await asyncio.sleep(0)
        quiet = quiet + 1 if before == [(one.done, len(one.pending)) for one in all_running] else 0
        if quiet == 4 and all(one.pending or one.done for one in all_running):
            return
        if quiet == 16 and any(one.pending for one in all_running):
            return
    raise AssertionError("an operation waits for something that is not the store")


class Step(NamedTuple):
    """One call that the scheduler let through."""

    operation: int
    ready: tuple[int, ...]
    """The operations that could have been next: first the one that ran last, if it could go on."""
    interrupts: bool
    """Whether another operation than the one that ran last is next, though that could go on."""


async def run(
    store: GatedStore,
    operations: Sequence[Operation],
    choices: Sequence[int],
    crash: "tuple[int, int] | None" = None,
) -> tuple[list[Step], list[Any]]:
    """Run operations; ``choices`` are the operations whose calls come first, by their numbers.

    From there on, and where the operation of a choice cannot go on, the operation that ran last
    goes on, or else the first that can. ``crash`` names an operation and the number of calls after
    which its process dies: it is never let go on. Return the steps, and what the operations
    returned or raised.
    """
    all_running = [await _begin(operation) for operation in operations]
    made: list[Step] = []
    last = -1
    try:
        while True:
            await _come_to_rest(all_running)
            able = [
                number
                for number, one in enumerate(all_running)
                if one.pending and (number, one.calls) != crash
            ]
            if not able:
                break
            ready = tuple(sorted(able, key=lambda number: number != last))
            choice = choices[len(made)] if len(made) < len(choices) else ready[0]
            if choice not in ready:
                choice = ready[0]
            made.append(Step(choice, ready, interrupts=choice != last and last in ready))
            last = choice
            await store.let_through(all_running[choice])
        tasks = [one.task for one in all_running if one.task is not None]
        results = await asyncio.gather(
            *(task for task in tasks if task.done()), return_exceptions=True
        )
        return made, list(results)
    finally:
        for one in all_running:
            for _, answer in one.pending:
                answer.cancel()
            if one.task is not None and not one.task.done():
                one.task.cancel()
        await asyncio.sleep(0)


def order(made: Sequence[Step]) -> list[int]:
    """The operations in the order of their calls."""
    return [step.operation for step in made]


def next_choices(made: Sequence[Step], interruptions: int) -> list[int] | None:
    """The choices of the next interleaving in order, or None after the last.

    Of those in which operations are interrupted so many times at the most: nearly all bugs show
    with two interruptions (Musuvathi and Qadeer, "Iterative context bounding", 2007), and their
    number grows with the calls by a power, not exponentially.
    """
    for last in range(len(made) - 1, -1, -1):
        step, before = made[last], made[:last]
        later = step.ready[step.ready.index(step.operation) + 1 :]
        goes_on = bool(before) and before[-1].operation in step.ready
        if later and sum(one.interrupts for one in before) + goes_on <= interruptions:
            return [*order(before), later[0]]
    return None
