"""Concurrent copies of one piece of work, which together empty a queue that they share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def run_concurrently(work: Callable[[], Coroutine[Any, Any, None]], copies: int) -> None:
    """Run ``copies`` of the same work at a time and wait until all have ended.

    The first error cancels the other copies and is raised once they have ended. Cancelling the
    caller cancels all copies. With one copy or none, the work runs in the caller's own task.
    """
    if copies <= 1:
        await work()
        return
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(copies):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
