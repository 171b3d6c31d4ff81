"""Tasks that more than one, or maybe nobody any more, waits for; tasks that must not die; lanes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

#: Seconds until work that died is started again.
RESTART_SECONDS = 0.5
#: Seconds after which a task that has not ended is cancelled again.
CANCEL_AGAIN_SECONDS = 0.1


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


def supervised(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Run work in the background. If it dies, log why and start it again; if it returns, end."""
    return asyncio.create_task(_supervise(name, work), name=name)


async def _supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s died and is started again", name)
        else:
            return
        await asyncio.sleep(RESTART_SECONDS)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, whatever the end is.

    While it connects, redis-py may swallow a cancellation: then the task is cancelled again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)
    retrieved(task)
