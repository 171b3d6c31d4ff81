"""Turns: lends a few connections to jobs so that authors take turns."""

import asyncio
from collections import deque

from feedsvc.core.store import Store


class Turns:
    """Connections that a worker process makes its calls on.

    Jobs that wait are served author after author, and the jobs of one author in the order in which
    they came. So the calls of one author's many jobs delay a call of another author by one call.
    """

    def __init__(self) -> None:
        self._free: deque[Store] = deque()
        self._waiting: dict[str, deque[asyncio.Future[Store]]] = {}
        """Jobs that wait, by author; the first author is served next."""

    def put(self, store: Store) -> None:
        """Add a connection, or give a taken connection back."""
        while self._waiting:
            author, queue = next(iter(self._waiting.items()))
            del self._waiting[author]
            waiter = queue.popleft()
            if queue:
                self._waiting[author] = queue  # behind the other authors
            if not waiter.done():
                waiter.set_result(store)
                return
        self._free.append(store)

    async def take(self, author: str) -> Store:
        """Wait for a connection; give it back with ``put``."""
        if self._free:
            return self._free.popleft()
        waiter: asyncio.Future[Store] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(author, deque()).append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.put(waiter.result())
            raise
