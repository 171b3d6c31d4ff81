"""A process that has imported feedsvc and forks a child for each command of a test.

`python -m tests.harness.fork_server DESCRIPTOR` serves a socket until the socket's other end is
closed. A message on it is a byte and four descriptors: a socket of the new command, and the
command's stdin, stdout and stderr. The child reads a `Request` in a line of JSON from the command's
socket and writes its pid when it is about to run. The fork server writes the exit status of the
child. Both are a NUMBER. If the other end of the command's socket is closed, the fork server kills
the child.

The child runs what `python -m feedsvc` runs, and exits as Python exits.
"""

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass

#: The form of a pid and of an exit status.
NUMBER = struct.Struct("!i")
#: Variables that feedsvc.__main__ sets before it imports gRPC, which reads them only then.
START_DEFAULTS = {"GRPC_VERBOSITY": "NONE"}
#: Option of prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Request:
    """What a command gets from the process that starts it."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    is_session_leader: bool


def main(descriptor: int) -> None:
    """Import feedsvc, and serve a socket. Children return from here."""
    _import_feedsvc()
    forked = _serve(socket.socket(fileno=descriptor))
    if forked is not None:
        _run(*forked)


def _import_feedsvc() -> None:
    for name, value in START_DEFAULTS.items():
        os.environ.setdefault(name, value)
    import feedsvc  # noqa: PLC0415 - imports much, so after the lines above

    for module in pkgutil.walk_packages(feedsvc.__path__, "feedsvc."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    # The collector of a child would write to each object, and so copy the memory of all imports.
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class _Command:
    """A child: its pid, the descriptor by which the kernel reports its end, and its socket."""

    pid: int
    process: int
    socket: socket.socket


def _serve(requests: socket.socket) -> tuple[socket.socket, list[int], int] | None:
    """Fork children until the other end of the socket is closed; then return None.

    Return in each child: its socket, its descriptors, and the pid of the fork server.
    """
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    commands: dict[int, _Command] = {}
    parent = os.getpid()
    while True:
        # Only the first: the others may be gone after it, and their numbers given to new files.
        (descriptor, _), *_ = poll.poll()
        if descriptor == requests.fileno():
            _, received, _, _ = socket.recv_fds(requests, 1, 4)
            if not received:
                return None
            command_socket = socket.socket(fileno=received[0])
            if (pid := os.fork()) == 0:
                return command_socket, received[1:], parent
            for standard_descriptor in received[1:]:
                os.close(standard_descriptor)
            command = _Command(pid, os.pidfd_open(pid), command_socket)
            commands[command.process] = commands[command_socket.fileno()] = command
            poll.register(command.process, select.POLLIN)
            poll.register(command_socket, 0)  # reports only that the other end is closed
        elif descriptor == (command := commands.pop(descriptor)).process:
            _, status = os.waitpid(command.pid, 0)
            poll.unregister(command.process)
            os.close(command.process)
            if commands.pop(command.socket.fileno(), None):
                poll.unregister(command.socket)
            _send(command.socket, os.waitstatus_to_exitcode(status))
            command.socket.close()
        else:
            os.kill(command.pid, signal.SIGKILL)
            poll.unregister(command.socket)


def _send(command_socket: socket.socket, number: int) -> None:
    try:
        command_socket.sendall(NUMBER.pack(number))
    except OSError:
        return  # nobody waits for the command any more


def _run(command_socket: socket.socket, descriptors: list[int], parent: int) -> None:
    """Become what the request says, and run `python -m feedsvc`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    with command_socket:
        request = Request(**json.loads(command_socket.makefile("rb").readline()))
        if request.is_session_leader:
            os.setsid()
        for standard_descriptor, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard_descriptor)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        time.tzset()
        sys.path[0] = request.folder
        sys.argv = ["feedsvc", *request.arguments]
        sys.orig_argv = [sys.executable, "-m", *sys.argv]
        _open_standard_streams()
        # As a signal ends a process that has just begun, without a traceback of this module.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _send(command_socket, os.getpid())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    runpy.run_module("feedsvc", run_name="__main__", alter_sys=True)


def _open_standard_streams() -> None:
    """Replace the standard streams of Python by those of a process that starts now."""
    sys.stdin = sys.__stdin__ = _open(0, sys.stdin)
    sys.stdout = sys.__stdout__ = _open(1, sys.stdout)
    sys.stderr = sys.__stderr__ = _open(2, sys.stderr)


def _open(descriptor: int, inherited: io.TextIOWrapper) -> io.TextIOWrapper:
    return open(
        descriptor,
        "r" if descriptor == 0 else "w",
        buffering=1 if descriptor == 2 or os.isatty(descriptor) else -1,
        encoding=inherited.encoding,
        errors=inherited.errors,
        closefd=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
