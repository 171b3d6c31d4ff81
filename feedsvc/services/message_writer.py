"""Writing of a stream's messages, which the client must read in time."""

import asyncio
import math
import time
from typing import Any

from feedsvc.config import Config
from feedsvc.core.streams import Stream
from feedsvc.errors import StreamNotRead

#: Part of ``checkpoint_seconds`` without a message after which a stream is quiet.
QUIET_PART = 0.75


class MessageWriter:
    """The writer of one stream's messages."""

    def __init__(self, stream: Stream, context: Any, config: Config) -> None:
        self._stream = stream
        self._context = context
        self._write_seconds = config.write_seconds
        self._quiet_seconds = config.checkpoint_seconds * QUIET_PART
        self._last_write = 0.0
        self._metadata_sent = False

    @property
    def is_quiet(self) -> bool:
        """True if the last message was written so long ago that a checkpoint is due."""
        return time.monotonic() - self._last_write >= self._quiet_seconds

    async def write(self, message: bytes) -> None:
        """Write a serialised message.

        Raise StreamNotRead if the client does not read within ``write_seconds``.
        """
        # No timer for each message: the clock of all streams watches this deadline.
        self._stream.write_deadline = time.monotonic() + self._write_seconds
        try:
            if not self._metadata_sent:
                # The metadata is sent alone. Otherwise, after a first message that was cut, the
                # status would bring the metadata again. gRPC refuses such a status, and so the
                # status would never leave.
                self._metadata_sent = True
                await self._context.send_initial_metadata(())
            await self._context.write(message)
        except asyncio.CancelledError:
            if not self._stream.cut:
                raise
            self._stream.task.uncancel()
            raise StreamNotRead(
                f"the client has not read for {self._write_seconds:g} seconds: subscribe again "
                "with the last resume_token"
            ) from None
        finally:
            self._stream.write_deadline = math.inf
        self._last_write = time.monotonic()
