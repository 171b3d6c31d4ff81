"""What subscriptions say, in short."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import Any

import grpc
from activityfeed import reason

from tests.serving import TIMEOUT_SECONDS, events_of

Event = tuple[str, str]


def added(ids: Iterable[str]) -> list[Event]:
    return [("added", one) for one in ids]


class Breaks:
    """The breaks that a subscription has survived."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        """Or the code, if the service gave none; empty if there was no error."""

    def __call__(self, error: grpc.RpcError | None) -> None:
        self.reasons.append("" if error is None else reason(error) or error.code().name)

    async def any(self) -> bool:
        return bool(self.reasons)


class Listener:
    """Reads a subscription; a blocking one in threads."""

    def __init__(self, messages: AsyncGenerator[Any, None] | Generator[Any, None, None]) -> None:
        self._messages = messages
        self._events: list[Event] = []
        self.token = ""

    async def next(self) -> Any:
        """The next message; None at the end."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if isinstance(self._messages, Generator):
                return await asyncio.to_thread(next, self._messages, None)
            return await anext(self._messages, None)

    async def read_message(self) -> Any:
        message = await self.next()
        assert message is not None, "the subscription has ended"
        self.token = message.resume_token
        return message

    async def read_event(self) -> Event:
        """The next thing that is said, over heartbeats."""
        while not self._events:
            self._events += events_of(await self.read_message())
        return self._events.pop(0)

    async def read_events(self, count: int) -> list[Event]:
        return [await self.read_event() for _ in range(count)]

    async def close(self) -> None:
        if isinstance(self._messages, Generator):
            await asyncio.to_thread(self._messages.close)
        else:
            await self._messages.aclose()
