"""A process that the load generator starts, and the pipe to it."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

#: Seconds that a process has to end by itself.
LAST_SECONDS = 5.0

#: Signals that ask a command to end.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Sent = TypeVar("_Sent")
_Heard = TypeVar("_Heard")


class Child(Generic[_Sent, _Heard]):
    """A process that runs ``target``, whose last argument is its end of the pipe.

    Processes are spawned, not forked, because gRPC does not survive a fork. Create a child within
    the event loop that reads the messages.
    """

    def __init__(
        self,
        target: Callable[..., None],
        *arguments: Any,
        hear: Callable[[_Heard], None],
        died: Callable[[], None],
    ) -> None:
        """Prepare the process.

        ``hear`` gets each message of the process. ``died`` is called if the process closes the pipe
        before `hang_up`.
        """
        self._hear = hear
        self._died = died
        context = get_context("spawn")
        self._pipe: Connection[_Sent, _Heard]
        self._pipe, self._far_end = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=target, args=(*arguments, self._far_end), daemon=True
        )

    def start(self) -> None:
        """Start the process, which never sees Ctrl-C or SIGTERM: its parent ends it."""
        # Both signals may reach the whole group of processes, but only the parent cleans up. A
        # process blocks the signals that are blocked when it starts, and prints no traceback for
        # them, not even while it imports modules. A signal for the parent waits meanwhile.
        # The start of the resource tracker unblocks them, so it comes first.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._far_end.close()
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def send(self, message: _Sent) -> None:
        """Send a message to the process."""
        self._pipe.send(message)

    def hang_up(self) -> None:
        """Close the pipe, which asks the process to end."""
        if not self._pipe.closed:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()

    def kill(self) -> None:
        """End the process at once. Nothing of what it has not sent yet comes."""
        self.hang_up()
        if self._process.pid is not None:
            self._process.kill()

    async def send_large(self, message: _Sent) -> None:
        """Send a message that may be larger than the pipe, without blocking the event loop.

        A process that has ended does not get the message.
        """
        with suppress(OSError):  # `_read` notices the end, too
            await asyncio.to_thread(self._pipe.send, message)

    async def join(self) -> None:
        """Wait for the end of the process, and kill it after LAST_SECONDS."""
        if self._process.pid is None:
            self._far_end.close()
            return
        await asyncio.to_thread(self._process.join, LAST_SECONDS)
        self._process.kill()
        self._process.join()

    def _read(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            self.hang_up()
            self._died()
        else:
            self._hear(message)
