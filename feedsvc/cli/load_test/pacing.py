"""When calls begin: as soon as an earlier call ends (closed loop), or on schedule (open loop)."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import accumulate, count, repeat
from typing import TypeVar

from feedsvc.cli.load_test.clock import clock
from feedsvc.core.concurrency import run_concurrently

_Item = TypeVar("_Item")


async def in_lanes(
    items: Iterable[_Item], work: Callable[[_Item], Awaitable[object]], *, lanes: int
) -> None:
    """Work on the items in their order, at most ``lanes`` at once.

    This is a closed loop: the work on an item begins when the work on an earlier one ends. At the
    first error, cancel the other lanes and raise the error.
    """
    remaining = iter(items)

    async def lane() -> None:
        for item in remaining:
            await work(item)

    await run_concurrently(lane, lanes)


def evenly_spaced(rate: float, first: float = 0, step: float = 1) -> Iterator[float]:
    """Yield the seconds at which every ``step``-th call, from the ``first`` on, is due."""
    # Not a running sum: the number of calls in a run must not depend on rounding.
    return (number / rate for number in count(first, step))


def randomly_spaced(rate: float, rng: random.Random) -> Iterator[float]:
    """Yield the seconds at which calls of independent callers are due (a Poisson process)."""
    return accumulate(rng.expovariate(rate) for _ in repeat(None))


class OpenLoop:
    """Calls that begin when they are due, whether or not earlier calls were answered.

    Workers share the due times: each takes the next one, waits for it, and makes the call. When the
    last waiting worker begins its call, one more worker starts, up to ``max_in_flight`` workers.
    So a stalled server costs no more memory than that, and a call for which no worker is free
    begins late by the time that it waited for a worker.
    """

    def __init__(
        self,
        due_times: Iterator[float],
        call: Callable[[float, bool], Awaitable[None]],
        *,
        max_in_flight: int | None,
    ) -> None:
        """Prepare a loop; nothing is called before ``run``.

        ``due_times`` are times of ``clock``, in order. ``call`` gets the due time, and True if the
        call was held: it had to wait because ``max_in_flight`` others were not answered. None for
        ``max_in_flight`` means no limit.
        """
        self._due_times = due_times
        self._call = call
        self._max_in_flight = max_in_flight
        self._workers = 0
        self._waiting: set[asyncio.Task[None] | None] = set()
        self._stopped = False

    async def run(self) -> None:
        """Make the calls. Return when the due times end, or after `stop`, and all are answered."""
        async with asyncio.TaskGroup() as group:
            self._start_worker(group)

    def stop(self) -> None:
        """Begin no more calls."""
        self._stopped = True
        for task in self._waiting:
            if task is not None:
                task.cancel()

    @property
    def _is_full(self) -> bool:
        return self._max_in_flight is not None and self._workers >= self._max_in_flight

    def _start_worker(self, group: asyncio.TaskGroup) -> None:
        self._workers += 1
        group.create_task(self._work(group))

    async def _work(self, group: asyncio.TaskGroup) -> None:
        is_new = True
        for due in self._due_times:
            if self._stopped:
                return
            held = False
            if (early := due - clock()) > 0:
                await self._wait(early)
            else:
                # A new worker takes over late when the event loop is behind, not when all are busy.
                held = self._is_full and not is_new
            if not self._waiting and not self._is_full:
                self._start_worker(group)
            await self._call(due, held)
            is_new = False

    async def _wait(self, seconds: float) -> None:
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting.discard(task)
