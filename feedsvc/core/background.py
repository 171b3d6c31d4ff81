"""Background work: tasks that must not die, work that must end, and builds that callers share."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from feedsvc.core.log_limits import log_failure
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds after which a supervised task that died starts again.
RESTART_SECONDS = 0.5
#: Seconds after which a task that has not ended is cancelled again.
CANCEL_AGAIN_SECONDS = 0.1

T = TypeVar("T")


def mark_retrieved(task: asyncio.Task[Any]) -> None:
    """Mark the error of an ended task as retrieved; whatever awaits the task still gets it."""
    if not task.cancelled():
        task.exception()


def supervised(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Run work in the background. Work that dies is logged and started again; work may return."""
    return asyncio.create_task(_supervise(name, work), name=name)


async def _supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 (the work begins again after any error)
            log_failure(log, f"{name} died and is started again", error)
        else:
            return
        await asyncio.sleep(RESTART_SECONDS)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until the task has ended, by the cancellation or otherwise.

    While redis-py connects, it may swallow a cancellation: then the task is cancelled again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)
    mark_retrieved(task)


class CommittedWork:
    """Work that runs to its end even if its caller goes away; a stopping server waits for it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work to its end, also if the caller is cancelled meanwhile, and return its result."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._discard)
        return await asyncio.shield(task)

    def _discard(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        mark_retrieved(task)

    async def drain(self) -> None:
        """Wait until all work has ended."""
        while self._running:
            await asyncio.wait(self._running)


class SharedBuilds(Generic[T]):
    """Builds of cached data, at most one build of a user at a time: later callers join it."""

    def __init__(self, work: CommittedWork, limit: int) -> None:
        """Begin at most ``limit`` builds at a time."""
        self._work = work
        self._limit = limit
        self._builds: dict[str, asyncio.Task[T]] = {}

    async def join(self, user: str, begin: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Wait for the user's build, or begin one by ``begin``; return the build's result.

        Return None if as many builds as allowed are under way, or if the store is not available:
        the caller then reads the outboxes, and if the store is gone, that read says so.
        """
        build = self._builds.get(user)
        if build is None:
            if len(self._builds) >= self._limit:
                return None
            build = asyncio.create_task(self._work.finish(begin()))
            self._builds[user] = build
            build.add_done_callback(lambda ended: self._forget(user, ended))
        try:
            return await asyncio.shield(build)
        except StoreUnavailable:
            return None  # the store may refuse writes only

    def _forget(self, user: str, build: asyncio.Task[T]) -> None:
        self._builds.pop(user, None)
        mark_retrieved(build)
