"""Concurrent copies of one piece of work, which together empty a queue that they share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def run_concurrently(work: Callable[[], Coroutine[Any, Any, None]], copies: int) -> None:
    """Run ``copies`` of the same work at a time and wait until all have ended.

    The first error cancels the other copies and is raised once they have ended; a copy that is
    cancelled counts as an error, because its part of the work is missing. Cancelling the caller
    cancels all copies. With one copy or none, the work runs in the caller's own task.
    """
    if copies <= 1:
        await work()
        return
    # Not a TaskGroup, which takes a copy that was cancelled for one that has done its part.
    tasks = [asyncio.ensure_future(work()) for _ in range(copies)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
