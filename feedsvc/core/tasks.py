"""Tasks that more than one, or maybe nobody any more, waits for; and work in lanes and turns."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


def retrieved(task: asyncio.Task[Any]) -> None:
    """Marks the error of an ended task as retrieved; who waits for it is told all the same."""
    if not task.cancelled():
        task.exception()


async def in_lanes(lane: Callable[[], Awaitable[None]], lanes: int) -> None:
    """Run a lane so many times at once, to the end or to the first error, which ends the others.

    A cancelled caller takes its lanes along.
    """
    if lanes <= 1:
        await lane()
        return
    tasks = [asyncio.ensure_future(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
