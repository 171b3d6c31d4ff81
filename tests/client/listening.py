"""Short ways to read subscriptions of both clients."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import Any

import grpc
from activityfeed import reason

from tests.serving import TIMEOUT_SECONDS, events_of

Event = tuple[str, str]


def added(activity_ids: Iterable[str]) -> list[Event]:
    """Return the events that add activities."""
    return [("added", activity_id) for activity_id in activity_ids]


class Breaks:
    """A callback that notes the breaks that a subscription survives."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        """The reason of each break: the code if the service gave none, empty without an error."""

    def __call__(self, error: grpc.RpcError | None) -> None:
        self.reasons.append("" if error is None else reason(error) or error.code().name)

    async def has_any(self) -> bool:
        return bool(self.reasons)


class Listener:
    """Reads a subscription; that of a blocking client in threads."""

    def __init__(self, messages: AsyncGenerator[Any, None] | Generator[Any, None, None]) -> None:
        self._messages = messages
        self._events: list[Event] = []
        self.token = ""
        """Resume token of the last message that was read."""

    async def read_or_none(self) -> Any:
        """Return the next message; None at the end of the subscription."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if isinstance(self._messages, Generator):
                return await asyncio.to_thread(next, self._messages, None)
            return await anext(self._messages, None)

    async def read_message(self) -> Any:
        """Return the next message; fail if the subscription has ended."""
        message = await self.read_or_none()
        assert message is not None, "the subscription has ended"
        self.token = message.resume_token
        return message

    async def read_event(self) -> Event:
        """Return the next event (see `events_of`); skip heartbeats."""
        while not self._events:
            self._events += events_of(await self.read_message())
        return self._events.pop(0)

    async def read_events(self, count: int) -> list[Event]:
        """Return a number of events."""
        return [await self.read_event() for _ in range(count)]

    async def read_to_the_end(self) -> None:
        """Read until the subscription ends; fail if an event comes before."""
        while (message := await self.read_or_none()) is not None:
            assert not events_of(message)

    async def close(self) -> None:
        if isinstance(self._messages, Generator):
            await asyncio.to_thread(self._messages.close)
        else:
            await self._messages.aclose()
