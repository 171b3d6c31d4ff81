"""The processes of the fork server, beside those of interpreters that start anew."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness import command_process
from tests.harness.command_process import (
    ROOT,
    fork_server,
    start_command,
    start_interpreter,
)
from tests.serving import wait_until

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]
#: A program that has a fork server, starts a command that waits for input, and prints its pid.
PARENT = """
import asyncio, os, sys, time
from tests.harness.command_process import start_command
async def main():
    process = await start_command(["import", "-", "--server", "127.0.0.1:1"], os.environ)
    print(process.pid, flush=True)
    time.sleep(60)
asyncio.run(main())
"""

both = pytest.mark.parametrize("start", [start_command, start_interpreter])


async def run(
    start: Start,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    **streams: Any,
) -> tuple[int | None, bytes, bytes]:
    """Run a command to its end; return its exit status and its output."""
    process = await start(arguments, os.environ | dict(environment or {}), **streams)
    out, err = await process.communicate(b"")
    return process.returncode, out, err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["feed"],
        ["feed", "bob", "--server", "x"],
        ["no-such-command"],
        ["feed", "bob", "--server", "127.0.0.1:1"],
        ["import", "/no/such/file"],
    ],
)
async def test_forked_command_prints_and_exits_as_an_interpreter_does(
    arguments: Sequence[str],
) -> None:
    forked = await run(start_command, *arguments)
    assert forked == await run(start_interpreter, *arguments)


async def test_console_script_runs_the_same_command() -> None:
    script = Path(sys.executable).with_name("feedsvc")
    process = await asyncio.create_subprocess_exec(
        script, "--version", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (process.returncode, out, b"") == await run(start_command, "--version")


def test_fork_server_has_one_thread_and_no_process() -> None:
    pid, _ = fork_server()
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    # multiprocessing's resource tracker would be a child of the fork server and not of a command.
    assert not children(pid)


async def test_command_is_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"FEEDSVC_SERVER": "127.0.0.1:1"}
    process = await start_command(["import", "-"], environment, start_new_session=True)
    other = await start_command(["import", "-"], environment)
    try:
        server, _ = fork_server()
        assert len({process.pid, other.pid, server, os.getpid()}) == 4
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        assert os.getsid(other.pid) == os.getsid(server)
        assert folder(process.pid) == tmp_path
    finally:
        for running in (process, other):
            running.kill()
            await running.communicate()
    assert (process.returncode, other.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


@both
async def test_command_inherits_the_descriptors_of_its_standard_streams_alone(start: Start) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        status, out, _ = await run(start, "--version", stdout=writing)
        os.close(writing)
        assert (status, out) == (0, None)
        assert reader.read().startswith(b"feedsvc")  # ends: no process has the pipe open


@pytest.mark.parametrize("has_pid", [False, True])
async def test_start_that_is_cancelled_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, has_pid: bool
) -> None:
    server, _ = fork_server()
    read_pid = command_process._read_pid

    def read_pid_and_cancel(received: bytes) -> int:
        starting.cancel()
        return read_pid(received)

    with monkeypatch.context() as patches:
        if has_pid:
            patches.setattr(command_process, "_read_pid", read_pid_and_cancel)
        starting = asyncio.create_task(start_command(["import", "-"], os.environ))
        await asyncio.sleep(0)  # the request is sent
        if not has_pid:
            starting.cancel()
        await asyncio.wait([starting])
    assert starting.cancelled()
    assert (await run(start_command, "--version"))[0] == 0

    async def has_no_child() -> bool:
        return not children(server)

    await wait_until(has_no_child)


async def test_command_in_another_encoding_is_an_interpreter_of_its_own() -> None:
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | ascii_locale
    process = await start_command(["import", "-", "--server", "127.0.0.1:1"], environment)
    try:
        assert command_line(process.pid)[1:3] == [b"-m", b"feedsvc"]
    finally:
        process.kill()
        await process.communicate()


def test_commands_die_with_the_process_that_ran_the_tests() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    asyncio.run(wait_until(lambda: has_ended(pid)))


async def has_ended(pid: int) -> bool:
    return state(pid) in {"", "Z"}


def state(pid: int) -> str:
    """Return the letter of a process's state; an empty text if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def folder(pid: int) -> Path:
    return Path(f"/proc/{pid}/cwd").readlink()


def command_line(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
