"""The processes of a world: each dies with the harness, and can be killed, stopped and started."""

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

#: Where the feedsvc lies that is imported here; its processes run the same.
ROOT = Path(feedsvc.__file__).resolve().parents[1]
#: Seconds that a process may take to serve; the machine may be busy.
START_SECONDS = 30.0
#: Between two looks at a process or its log.
LOOK_SECONDS = 0.01

# As in feedsvc.embedded, but SIGKILL (9), which ends a stopped process too.
_TRAMPOLINE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(9), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port() -> int:
    """Find a port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Died(Exception):
    """A process ended that nobody killed; the text is the end of its log."""


class Process:
    """One program, started again after each kill."""

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
        """Whether it should be running, as far as the harness is concerned."""

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def launch(self, *more: str) -> None:
        """Start it, with some more arguments."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._running = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid())),
                    *(*self._command, *more),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self._environment,
                start_new_session=True,
            )
        self.wanted = True

    def said(self) -> str:
        """What it has written since it was launched."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    @property
    def status(self) -> int | None:
        """What it has exited with; None while it runs."""
        return None if self._running is None else self._running.poll()

    def check(self) -> None:
        """Raises Died if it ended by itself."""
        if self.wanted and self.ended():
            assert self._running is not None
            raise Died(
                f"{self.name} ended by itself, status {self._running.returncode}: "
                f"{self.said()[-2000:]}"
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

    async def until_it_says(self, text: str) -> str:
        """The first line of its log with a text. Raises Died if it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = self.ended()
            for line in self.said().splitlines():
                if text in line:
                    return line
            if ended:
                self.check()
            await asyncio.sleep(LOOK_SECONDS)
        raise TimeoutError(f"{self.name} does not say {text!r}: {self.said()[-2000:]}")


def store_command(folder: Path, path: Path, fsync: str, port: int = 0) -> list[str]:
    """A real store on a unix socket, with its append-only file in a folder.

    If it has a port too, one of loopback, others replicate from there.
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
    return [sys.executable, "-m", "feedsvc", *arguments]
