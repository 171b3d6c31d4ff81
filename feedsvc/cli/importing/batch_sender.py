"""Batches of requests, sent several at a time, the requests of each entity in order."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from google.protobuf.message import Message

from feedsvc.cli.importing.sources import Location

_Request = TypeVar("_Request", bound=Message)


class Entry(NamedTuple, Generic[_Request]):
    """A request to be sent in a batch."""

    location: Location
    """File and line of the request's row."""
    request: _Request


class BatchSender(Generic[_Request]):
    """A sender with several lanes, each of which sends one batch at a time.

    Requests with the same key take the same lane and so keep their order. One task alone may put
    requests. ``put`` waits when its lane sends a batch and the lane's next batch is full: so memory
    is bounded by two batches a lane. Leaving the context sends the remaining requests and waits for
    them.
    """

    def __init__(
        self,
        send: Callable[[list[Entry[_Request]]], Awaitable[None]],
        *,
        lanes: int,
        batch_size: int,
        batch_bytes: int,
    ) -> None:
        self._send = send
        self._batch_size = batch_size
        self._batch_bytes = batch_bytes
        self._unsent: list[list[Entry[_Request]]] = [[] for _ in range(lanes)]
        self._unsent_bytes = [0] * lanes
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
                for lane in range(len(self._unsent)):
                    await self._send_batch(lane)
                for task in filter(None, self._sending):
                    await task
        finally:
            tasks = [task for task in self._sending if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def put(self, key: str, entry: Entry[_Request]) -> None:
        """Send the request with a batch of its lane. Raise the error of an earlier batch."""
        lane = hash(key) % len(self._unsent)
        size = entry.request.ByteSize()
        if self._unsent_bytes[lane] + size > self._batch_bytes:
            await self._send_batch(lane)
        self._unsent[lane].append(entry)
        self._unsent_bytes[lane] += size
        if len(self._unsent[lane]) >= self._batch_size:
            await self._send_batch(lane)

    async def _send_batch(self, lane: int) -> None:
        """Begin to send the lane's batch, after the batch before it has been answered."""
        batch = self._unsent[lane]
        if not batch:
            return
        if (task := self._sending[lane]) is not None:
            await task
        self._unsent[lane], self._unsent_bytes[lane] = [], 0
        self._sending[lane] = asyncio.create_task(self._run(batch))

    async def _run(self, batch: list[Entry[_Request]]) -> None:
        await self._send(batch)
