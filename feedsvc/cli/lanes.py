"""Sending rows in batches, several at once, each entity's in their order."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from google.protobuf.message import Message

_Request = TypeVar("_Request", bound=Message)


class Entry(NamedTuple, Generic[_Request]):
    """A row to be sent."""

    place: str
    """Where it stands: the file and the line."""
    request: _Request


class Lanes(Generic[_Request]):
    """Each lane sends one batch at a time, and what has the same key takes the same lane.

    For one task that puts. ``put`` waits when a lane has one batch on its way and the next one is
    full: so memory is bounded by two batches a lane. Leaving the context sends what is left and
    waits for it.
    """

    def __init__(
        self,
        send: Callable[[list[Entry[_Request]]], Awaitable[None]],
        *,
        lanes: int,
        batch: int,
        batch_bytes: int,
    ) -> None:
        self._send = send
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._waiting: list[list[Entry[_Request]]] = [[] for _ in range(lanes)]
        self._bytes = [0] * lanes
        self._sending: list[asyncio.Task[None] | None] = [None] * lanes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for lane in range(len(self._waiting)):
                    await self._leave(lane)
                for task in filter(None, self._sending):
                    await task
        finally:
            begun = [task for task in self._sending if task is not None]
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def put(self, key: str, entry: Entry[_Request]) -> None:
        """Sends the entry with a batch of its lane. Raises what sending an earlier batch raised."""
        lane = hash(key) % len(self._waiting)
        size = entry.request.ByteSize()
        if self._bytes[lane] + size > self._batch_bytes:
            await self._leave(lane)
        self._waiting[lane].append(entry)
        self._bytes[lane] += size
        if len(self._waiting[lane]) >= self._batch:
            await self._leave(lane)

    async def _leave(self, lane: int) -> None:
        batch = self._waiting[lane]
        if not batch:
            return
        if (before := self._sending[lane]) is not None:
            await before
        self._waiting[lane], self._bytes[lane] = [], 0
        self._sending[lane] = asyncio.create_task(self._run(batch))

    async def _run(self, batch: list[Entry[_Request]]) -> None:
        await self._send(batch)
