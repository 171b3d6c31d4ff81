"""Processes that run `feedsvc` with arguments, started without the second that imports take.

`start_command` has a fork server, one in each process that runs tests, which has imported feedsvc
and forks a child for each command. The child is a process as any other: with its own pid,
environment, folder, descriptors, session, signals and exit status. `start_interpreter` starts
`python -m feedsvc` itself.
"""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import BinaryIO

from tests.harness.fork_server import NUMBER, START_DEFAULTS, Request

ROOT = Path(__file__).parents[2]
#: Beginnings of the names of variables that the interpreter, the loader of libraries or an imported
#: module reads only once, at its start.
START_VARIABLES = ("PYTHON", "LANG", "LC_", "LD_", "GRPC_", "PROTOCOL_BUFFERS_", "MALLOC_")
#: Most characters that a stream of a process buffers, as in asyncio.
STREAM_LIMIT = 2**16

_ENVIRONMENT = dict(os.environ)


async def start_command(
    arguments: Sequence[str | bytes],
    environment: Mapping[str, str],
    *,
    stdin: int = PIPE,
    stdout: int = PIPE,
    stderr: int = PIPE,
    start_new_session: bool = False,
) -> Process:
    """Run `feedsvc` with arguments in a child of the fork server.

    Start `python -m feedsvc` if the environment has other values of START_VARIABLES than that of
    the fork server.
    """
    if sys.platform != "linux" or _of_start(environment) != _of_start(_ENVIRONMENT):
        return await start_interpreter(
            arguments,
            environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=start_new_session,
        )
    request = Request(
        arguments=[os.fsdecode(argument) for argument in arguments],
        environment=dict(environment),
        folder=os.getcwd(),  # noqa: PTH109 - a text in JSON
        is_session_leader=start_new_session,
    )
    return await _fork(request, (stdin, stdout, stderr))


async def start_interpreter(
    arguments: Sequence[str | bytes],
    environment: Mapping[str, str],
    *,
    stdin: int = PIPE,
    stdout: int = PIPE,
    stderr: int = PIPE,
    start_new_session: bool = False,
) -> Process:
    """Run `python -m feedsvc` with arguments."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "feedsvc", *arguments),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=start_new_session,
    )


def _of_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in (START_DEFAULTS | dict(environment)).items()
        if name.startswith(START_VARIABLES)
    }


@cache
def fork_server() -> tuple[int, socket.socket]:
    """Start the fork server; return its pid and the socket for requests.

    The fork server ends when this process ends.
    """
    near, far = socket.socketpair()
    with far:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.fork_server", str(far.fileno())],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=_ENVIRONMENT,
            # Ctrl-C in the terminal of the tests is not for the fork server.
            start_new_session=True,
        )

    @atexit.register
    def stop() -> None:
        near.close()
        server.wait()

    return server.pid, near


def _send_request(descriptors: Iterable[int]) -> socket.socket:
    """Have a child forked that gets standard streams; return the command's socket."""
    _, requests = fork_server()
    command, far_command = socket.socketpair()
    with far_command:
        socket.send_fds(requests, [b"\0"], [far_command.fileno(), *descriptors])
    return command


def _encode(request: Request) -> bytes:
    return json.dumps(asdict(request)).encode() + b"\n"


def _read_pid(received: bytes) -> int:
    assert received, "the fork server has ended"
    (pid,) = NUMBER.unpack(received)
    return int(pid)


def _read_status(command: socket.socket) -> int:
    """Return the exit status that the fork server reports. A command dies with its fork server."""
    received = b""
    with suppress(ConnectionResetError):
        received = command.recv(NUMBER.size)
    (status,) = NUMBER.unpack(received) if received else (-signal.SIGKILL,)
    return int(status)


async def _fork(request: Request, given: tuple[int, int, int]) -> Process:
    loop = asyncio.get_running_loop()
    with ExitStack() as opened, ExitStack() as far_ends:
        near, far = _descriptors(given, far_ends)
        for pipe in near:
            if pipe is not None:
                opened.callback(pipe.close)
        command = _send_request(far)
        opened.callback(command.close)
        far_ends.close()
        command.setblocking(False)
        await loop.sock_sendall(command, _encode(request))
        pid = _read_pid(await loop.sock_recv(command, NUMBER.size))
        opened.pop_all()
    handle = _Handle(pid, *near)
    waiter = loop.create_future()
    protocol = SubprocessStreamProtocol(STREAM_LIMIT, loop)
    transport = _Transport(
        *(loop, protocol, request.arguments, False, *given, 0, waiter),
        handle=handle,
    )
    loop.add_reader(command, transport.read_status, command)
    try:
        await waiter
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return Process(transport, protocol, loop)


def _descriptors(
    given: tuple[int, int, int], far_ends: ExitStack
) -> tuple[list[BinaryIO | None], list[int]]:
    """Return the test's ends of the pipes of a command, and the standard streams of the command."""
    near: list[BinaryIO | None] = []
    far: list[int] = []
    for number, descriptor in enumerate(given):
        if descriptor != PIPE:
            near.append(None)
            far.append(descriptor)
            continue
        reading, writing = os.pipe()
        near_end, far_end = (writing, reading) if number == 0 else (reading, writing)
        near.append(os.fdopen(near_end, "wb" if number == 0 else "rb", buffering=0))
        far.append(far_end)
        far_ends.callback(os.close, far_end)
    return near, far


class _Handle:
    """What asyncio's transport uses of a subprocess.Popen."""

    returncode: int | None = None

    def __init__(
        self, pid: int, stdin: BinaryIO | None, stdout: BinaryIO | None, stderr: BinaryIO | None
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Transport(BaseSubprocessTransport):
    """asyncio's transport of a process, to which the fork server reports the exit status."""

    def _start(self, *, handle: _Handle, **_: object) -> None:
        self._proc = handle

    def read_status(self, command: socket.socket) -> None:
        """Note the exit status of the command."""
        self._loop.remove_reader(command)
        with command:
            self._process_exited(_read_status(command))
