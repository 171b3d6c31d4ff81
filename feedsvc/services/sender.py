"""Writes the messages of a stream."""

import asyncio
import time
from typing import Any

from google.protobuf.message import Message

from feedsvc.config import Config
from feedsvc.errors import StreamNotRead

#: Of the time between checkpoints, what must have passed since something was sent.
QUIET = 0.75


class Sender:
    """Writes messages to a client, which must read them in time."""

    def __init__(self, context: Any, config: Config) -> None:
        self._context = context
        self._seconds = config.write_seconds
        self._quiet_seconds = config.checkpoint_seconds * QUIET
        self._sent = 0.0

    @property
    def quiet(self) -> bool:
        """Whether nothing has been sent for a while, so that a checkpoint is due."""
        return time.monotonic() - self._sent >= self._quiet_seconds

    async def __call__(self, message: Message) -> None:
        """Raises StreamNotRead."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._context.write(message)
        except TimeoutError:
            raise StreamNotRead(f"the client has not read for {self._seconds:g} seconds") from None
        self._sent = time.monotonic()
