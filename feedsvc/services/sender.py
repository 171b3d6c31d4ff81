"""Writes the messages of a stream."""

import asyncio
import math
import time
from typing import Any

from feedsvc.config import Config
from feedsvc.core.streams import Stream
from feedsvc.errors import StreamNotRead

#: Of the time between checkpoints, what must have passed since something was sent.
QUIET = 0.75


class Sender:
    """Writes messages to a client, which must read them in time."""

    def __init__(self, stream: Stream, context: Any, config: Config) -> None:
        self._stream = stream
        self._context = context
        self._seconds = config.write_seconds
        self._quiet_seconds = config.checkpoint_seconds * QUIET
        self._sent = 0.0
        self._begun = False

    @property
    def quiet(self) -> bool:
        """Whether nothing has been sent for a while, so that a checkpoint is due."""
        return time.monotonic() - self._sent >= self._quiet_seconds

    async def __call__(self, message: bytes) -> None:
        """Writes a serialised message. Raises StreamNotRead."""
        # Not a timer for each: the streams' clock looks at it.
        self._stream.must_go_on = time.monotonic() + self._seconds
        try:
            if not self._begun:
                # By themselves: the status of a stream whose first message is cut would bring them
                # again, which gRPC refuses, and so would never leave.
                self._begun = True
                await self._context.send_initial_metadata(())
            await self._context.write(message)
        except asyncio.CancelledError:
            if not self._stream.cut:
                raise
            self._stream.task.uncancel()
            raise StreamNotRead(f"the client has not read for {self._seconds:g} seconds") from None
        finally:
            self._stream.must_go_on = math.inf
        self._sent = time.monotonic()
