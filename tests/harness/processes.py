"""Processes that a test can kill, stop and start, and that die with the test."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import feedsvc
from feedsvc.embedded import find_server

#: The folder of the feedsvc package that this process imports; server processes run the same code.
ROOT = Path(feedsvc.__file__).resolve().parents[1]
#: Seconds that a process may take until it serves; the machine may be busy.
START_SECONDS = 30.0
#: Seconds between two looks at a process or its log.
LOOK_SECONDS = 0.01

# As in feedsvc.embedded, but with SIGKILL (9), which ends a stopped process too.
_TRAMPOLINE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(9), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_free_port() -> int:
    """Find a port of loopback on which no process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ProcessDied(Exception):
    """A process ended although the harness did not end it; the text is the end of its log."""


class Process:
    """A program that can be started again after each kill."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.wanted = False
        """True if the harness started the process and has not ended it since."""

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def launch(self, *extra_arguments: str) -> None:
        """Start the process; do not wait until it serves."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._running = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid())),
                    *(*self._command, *extra_arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self._environment,
                start_new_session=True,
            )
        self.wanted = True

    def log_text(self) -> str:
        """Return all that the process wrote since it was launched."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def has_ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    @property
    def status(self) -> int | None:
        """The exit status of the process; None while the process runs."""
        return None if self._running is None else self._running.poll()

    def check(self) -> None:
        """Raise ProcessDied if the process ended by itself."""
        if self.wanted and self.has_ended():
            assert self._running is not None
            raise ProcessDied(
                f"{self.name} ended by itself, status {self._running.returncode}: "
                f"{self.log_text()[-2000:]}"
            )

    def kill(self) -> None:
        self.wanted = False
        if self._running is not None:
            self._running.kill()
            self._running.wait()

    def terminate(self) -> None:
        self.wanted = False
        if self._running is not None:
            self._running.terminate()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    async def wait_for_line(self, text: str) -> str:
        """Return the first line of the log with a text.

        Raise ProcessDied if the process ends before, TimeoutError if no line comes in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            has_ended = self.has_ended()
            for line in self.log_text().splitlines():
                if text in line:
                    return line
            if has_ended:
                self.check()
            await asyncio.sleep(LOOK_SECONDS)
        raise TimeoutError(f"{self.name} does not log {text!r}: {self.log_text()[-2000:]}")


def store_command(folder: Path, path: Path, fsync: str, port: int = 0) -> list[str]:
    """Return the command of a store on a unix socket, with its append-only file in a folder.

    The store also listens on a port of loopback if one is given: replicas connect to it there.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "repl-diskless-sync-delay": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": fsync,
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(find_server().path), *arguments]


def feedsvc_command(*arguments: str) -> list[str]:
    """Return the command that runs `feedsvc` with arguments."""
    return [sys.executable, "-m", "feedsvc", *arguments]
