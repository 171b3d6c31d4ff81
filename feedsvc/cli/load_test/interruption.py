"""Ctrl-C and SIGTERM during a run: the first one ends the calls, the second one the process."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from types import FrameType, TracebackType
from typing import Any, Self

from feedsvc.cli.load_test.child import STOP_SIGNALS
from feedsvc.cli.load_test.plan import Plan
from feedsvc.cli.load_test.progress import Progress


class Interruption:
    """What Ctrl-C and SIGTERM do within the context.

    The first signal cancels the work, if any, and says what happens to the data of the run. The
    second signal ends the process at once, and says which data stay behind.
    """

    def __init__(self, plan: Plan, progress: Progress, *, keep: bool) -> None:
        """``keep`` says that the run never removes its data."""
        self._plan = plan
        self._progress = progress
        self._keep = keep
        self._handlers: dict[int, Any] = {}
        self._cancel: Callable[[], object] | None = None
        self.has_data = False
        """True if the run has stored follows or activities."""
        self.status = 0
        """The exit status of a run that a signal ended; 0 before the first signal."""

    def __enter__(self) -> Self:
        # Not the event loop's handlers, which would wait while the loop computes.
        for number in STOP_SIGNALS:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    async def until_signal(self, work: "asyncio.Task[None]") -> None:
        """Wait for the work, which the first signal cancels. Raise the work's error."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(work.cancel)
        if self.status:
            work.cancel()
        try:
            await asyncio.wait([work])
        finally:
            self._cancel = None
        if not work.cancelled():
            work.result()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        is_first = not self.status
        self.status = 128 + number  # as shells report it
        if not (is_first and self.has_data):
            self._exit()
        self._progress.print_line(
            "stopping: the run's follows and activities stay (--keep)"
            if self._keep
            else "stopping: removing the run's follows and activities (Ctrl-C again leaves them)"
        )
        if self._cancel is not None:
            self._cancel()

    def _exit(self) -> None:
        for process in active_children():
            process.kill()
        if self.has_data:
            print_left_behind(self._plan, self._progress)
        with suppress(RuntimeError):  # the signal came while the same stream was being written to
            self._progress.abandon()
        # Not sys.exit: to cancel calls and to end threads takes seconds.
        os._exit(self.status)


def print_left_behind(plan: Plan, progress: Progress) -> None:
    """Say which data stay behind, and print the command that removes them."""
    progress.print_line(f"The follows and activities of {plan.prefix}:* stay. To remove them:")
    progress.print_command(
        f"feedsvc bench --remove {plan.prefix} --users {plan.users} --server {plan.server}"
    )
