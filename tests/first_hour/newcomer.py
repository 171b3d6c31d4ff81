"""A newcomer: a fresh clone, an empty home, and the commands that a document prints."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.first_hour.documents import ROOT, Block

#: Address of the server that the documents start.
HOST, PORT = "127.0.0.1", 50051
SERVE = ".venv/bin/feedsvc serve"
#: Seconds that one command or block may take.
COMMAND_SECONDS = 900.0
#: Seconds until a command in the background must be ready, and until it must end.
READY_SECONDS, END_SECONDS = 60.0, 20.0
#: Seconds between two looks at a process.
POLL_SECONDS = 0.05
#: Variables of the caller that a newcomer's machine does not have, by their beginnings.
FOREIGN = ("VIRTUAL_ENV", "PYTHON", "FEEDSVC_", "MAKE", "MFLAGS", "COLUMNS", "LINES", "XDG_")


class CommandFailed(Exception):
    """A command of a document failed; the message has the command and what it printed."""


@dataclass
class _Running:
    """A process, with all that it started, and its output."""

    command: str
    process: subprocess.Popen[bytes]
    output: Path
    seen: int = 0
    """Characters of the output that have been returned."""

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def new_text(self) -> str:
        text = self.text()
        new, self.seen = text[self.seen :], len(text)
        return new

    def failed(self, what: str) -> CommandFailed:
        return CommandFailed(f"{what}:\n{self.command}\nIt printed:\n{self.text()[-5_000:]}")

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ends(self) -> bool:
        """Wait until the process and all that it started have ended; return whether they have."""
        return _wait(self._has_ended, END_SECONDS)

    def _has_ended(self) -> bool:
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Newcomer:
    """A fresh clone of the committed tree with an empty home, both gone in the end."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._background: list[_Running] = []
        self._count = 0
        self.folder = Path()
        self.environment: dict[str, str] = {}

    @property
    def clone(self) -> Path:
        """The clone, in which all commands run."""
        return self.folder / "home/feedsvc"

    def __enter__(self) -> Self:
        self.folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        self._resources.callback(self.end_background)
        home = self.folder / "home"
        home.mkdir()
        git = shutil.which("git") or "git"
        subprocess.run([git, "clone", "-q", ROOT, self.clone], check=True)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
        } | {"HOME": str(home), "TERM": "dumb"}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def activate(self) -> None:
        """Let all further commands find feedsvc, as `. .venv/bin/activate` does."""
        path = f"{self.clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = self.environment | {"PATH": path}

    def empty_data(self) -> None:
        """Remove what a server has stored, and end nothing: the server must have ended."""
        shutil.rmtree(self.clone / "data", ignore_errors=True)

    def run_block(self, block: Block, *, without: Sequence[str] = ()) -> None:
        """Run the commands of a block but those in ``without``. Raise CommandFailed.

        What the block starts in the background runs on until `end_background`.
        """
        if block.with_server and not server_listens():
            self.serve()
        if block.language == "python":
            program = self.folder / f"{block.location.replace('/', '-')}.py"
            program.write_text(block.text)
            self.type(f".venv/bin/python {program} {block.arguments}")
            return
        commands = _without(block.text, without)
        if block.in_background:
            self._start(commands, server_listens)
        else:
            self.type(commands)

    def serve(self) -> None:
        """Start the documents' server. Raise CommandFailed."""
        self._start(SERVE, server_listens)

    def type(self, command: str, *, until: str = "", status: int = 0) -> str:
        """Run a command as a person does; return its output. Raise CommandFailed.

        With ``until`` the command goes on in the background after it has printed this text.
        """
        if until:
            return self._start(command, lambda: until in self._background[-1].text()).new_text()
        running = self._spawn(command)
        try:
            ended = running.process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise running.failed("this does not end") from None
        if ended != status:
            raise running.failed(f"this ends with status {ended}, not {status}")
        return running.new_text()

    def end_background(self) -> list[tuple[str, str]]:
        """End what runs in the background by Ctrl-C, the newest first.

        Return each command and what it printed in the background. Raise CommandFailed if Ctrl-C is
        not enough.
        """
        ended, stubborn = [], []
        while self._background:
            running = self._background.pop()
            # A shell has its background jobs ignore Ctrl-C; such a job outlives the shell.
            is_left = running.process.poll() is not None
            running.signal(signal.SIGTERM if is_left else signal.SIGINT)
            if not running.ends():
                running.signal(signal.SIGKILL)
                stubborn.append(running.failed("Ctrl-C does not end this"))
            running.process.wait()
            ended.append((running.command, running.new_text()))
        if stubborn:
            raise stubborn[0]
        return ended

    def _start(self, command: str, ready: Callable[[], bool]) -> _Running:
        running = self._spawn(command)
        if not _wait(lambda: ready() or running.process.poll() is not None, READY_SECONDS):
            raise running.failed("this is not ready after a minute")
        if not ready():
            raise running.failed(f"this ended with status {running.process.returncode}")
        return running

    def _spawn(self, command: str) -> _Running:
        self._count += 1
        output = self.folder / f"output-{self._count}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-e", "-c", command],  # noqa: S607
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = _Running(command, process, output)
        self._background.append(running)
        return running


def server_listens() -> bool:
    """Return whether a server listens where the documents start theirs."""
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex((HOST, PORT)) == 0


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _without(text: str, commands: Sequence[str]) -> str:
    """Return the text without the lines that begin with one of the commands."""
    kept = [
        line
        for line in text.splitlines()
        if not any((line + " ").startswith(command + " ") for command in commands)
    ]
    return "\n".join(kept) + "\n"
