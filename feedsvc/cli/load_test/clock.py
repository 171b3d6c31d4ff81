"""The clock that all processes of a run share, and an event loop whose timers are as fine."""

import asyncio
import time
from collections.abc import Coroutine
from selectors import SelectSelector
from typing import Any

#: Seconds. All processes of a machine share this clock.
clock = time.monotonic


def microseconds(seconds: float) -> int:
    """Return a time in whole microseconds."""
    return int(seconds * 1e6)


def run_with_fine_timers(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in an event loop whose timers are as fine as the clock.

    Timers of epoll and of uvloop are rounded up to the next millisecond. With them every call of an
    open loop would begin up to a millisecond late.
    """
    selector = SelectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main)
