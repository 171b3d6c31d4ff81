"""A terminal of a given size, on which a test runs a command."""

import asyncio
import codecs
import os
import signal
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.harness.command_process import start_command
from tests.serving import TIMEOUT_SECONDS

#: Variables that change what a command prints; a test sets those that it is about.
VARIABLES = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Terminal:
    """A command in a process group of its own, and all that it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed = ""
        self._has_grown = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def lines(self) -> list[str]:
        return self.printed.replace("\r\n", "\n").splitlines()

    def press(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as Ctrl-C does."""
        os.killpg(self.process.pid, number)

    async def shows(self, text: str) -> None:
        """Wait until the command has printed a text. Raise TimeoutError if it does not."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while text not in self.printed:
                self._has_grown.clear()
                await self._has_grown.wait()

    async def code(self) -> int:
        """Wait for the end of the command and return its exit status."""
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            return await self.process.wait()

    async def closes(self) -> None:
        """Wait until no process has the terminal open and all output has been read."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._is_closed.wait()

    def read(self, descriptor: int) -> None:
        try:
            # A read may end within a character.
            self.printed += self._decoder.decode(os.read(descriptor, 1 << 16))
        except OSError:  # no process has the terminal open any more
            asyncio.get_running_loop().remove_reader(descriptor)
            self._is_closed.set()
        self._has_grown.set()


@asynccontextmanager
async def on_terminal(
    *arguments: object,
    server: str = "127.0.0.1:1",
    columns: int = 60,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Terminal]:
    """Run a command on a terminal. Kill it at the end of the context."""
    near, far = os.openpty()
    termios.tcsetwinsize(far, (24, columns))
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    process = await start_command(
        [str(argument) for argument in arguments],
        inherited | {"FEEDSVC_SERVER": server, "TERM": "xterm"} | dict(environment or {}),
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    terminal = Terminal(process)
    asyncio.get_running_loop().add_reader(near, terminal.read, near)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(near)
        os.close(near)


async def lines_on_terminal(
    *arguments: object,
    server: str = "127.0.0.1:1",
    columns: int = 60,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a command that succeeds on a terminal, and return the lines that it printed."""
    async with on_terminal(
        *arguments, server=server, columns=columns, environment=environment
    ) as terminal:
        assert await terminal.code() == 0
        await terminal.closes()
        return terminal.lines
