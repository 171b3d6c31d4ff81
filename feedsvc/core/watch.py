"""Watching deliveries: one look at the store serves all callers that wait for a delivery to end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

from feedsvc.core.batching import CALLER
from feedsvc.core.job import Delivery, Job
from feedsvc.core.log_limits import log_failure
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Seconds between looks at the jobs that callers wait for. A job that a worker of this process ends
#: is looked at without delay.
LOOK_SECONDS = 0.05
#: Most jobs that one look covers (with more jobs, each look takes the next of them), and most jobs
#: that one call to the store covers.
JOBS_A_LOOK, JOBS_A_CALL = 256, 64


class _Watched:
    """A job that callers wait for."""

    __slots__ = ("delivery", "ended", "job", "waiting")

    def __init__(self, job: Job, delivery: Delivery) -> None:
        self.job = job
        self.delivery = delivery
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting = 0


class Watch:
    """The jobs that callers of this process wait for."""

    def __init__(self, read: Callable[[Sequence[Job]], Awaitable[list[Delivery]]]) -> None:
        """``read`` returns how far deliveries have come."""
        self._read = read
        self._watched: dict[Job, _Watched] = {}
        """In the order of the last looks: the first job was looked at longest ago."""
        self._soon: dict[Job, None] = {}
        """Jobs that a worker of this process has ended."""
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._draining = False

    async def ended(self, job: Job, delivery: Delivery, seconds: float) -> Delivery:
        """Wait up to ``seconds`` for a delivery to end; return how far it has come."""
        watched = self._watched.get(job)
        if watched is None:
            watched = self._watched[job] = _Watched(job, delivery)
        watched.waiting += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            if not self._draining:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await asyncio.shield(watched.ended)
            return watched.delivery
        finally:
            watched.waiting -= 1
            if not watched.waiting:
                self._forget(watched)

    def look(self, job: Job) -> None:
        """Look at a job without delay: a worker has ended it."""
        if job in self._watched:
            self._soon[job] = None
            self._woken.set()

    def drain(self) -> None:
        """Answer all callers that wait, now and from now on."""
        self._draining = True
        for watched in self._watched.values():
            if not watched.ended.done():
                watched.ended.set_result(None)

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _forget(self, watched: _Watched) -> None:
        if self._watched.get(watched.job) is watched:
            del self._watched[watched.job]

    async def _look(self) -> None:
        CALLER.set(None)  # the task works for all callers, not only for the caller that started it
        while self._watched:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            jobs = self._next()
            try:
                for first in range(0, len(jobs), JOBS_A_CALL):
                    part = jobs[first : first + JOBS_A_CALL]
                    for job, delivery in zip(part, await self._read(part), strict=True):
                        self._note(job, delivery)
            except StoreUnavailable:
                pass  # each caller has a deadline of its own
            except Exception as error:  # noqa: BLE001 (the next look may succeed)
                log_failure(log, "looking at deliveries failed; trying again", error)

    def _next(self) -> list[Job]:
        """Return the jobs to look at: jobs that have ended, and jobs looked at longest ago."""
        jobs = [job for job in self._soon if job in self._watched]
        self._soon.clear()
        for job in list(islice(self._watched, JOBS_A_LOOK)):
            self._watched[job] = self._watched.pop(job)  # moves to the end
            jobs.append(job)
        return list(dict.fromkeys(jobs))

    def _note(self, job: Job, delivery: Delivery) -> None:
        watched = self._watched.get(job)
        if watched is None:
            return
        watched.delivery = delivery
        if delivery.state != "queued" and not watched.ended.done():
            watched.ended.set_result(None)
            self._forget(watched)
