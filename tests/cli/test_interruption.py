"""Ctrl-C and SIGTERM at any moment: no traceback, the status that shells show, no leftover."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.serving import TIMEOUT_SECONDS, Service

from .conftest import Feedsvc, Ran

#: Modules whose import ends later and later: of a command, and of a server.
MODULES = ("click.core", "feedsvc.cli", "grpc._cython.cygrpc", "feedsvc.cli.connection")
SERVER_MODULES = ("uvloop", "feedsvc.server", "feedsvc.process")


@pytest.fixture
def feedsvc(service: Service) -> Feedsvc:
    """Run commands in interpreters of their own: the signals may come during their starts."""
    return Feedsvc(f"127.0.0.1:{service.server.port}", forked=False)


async def interrupted_after(module: str, number: signal.Signals, *arguments: object) -> Ran:
    """Run a command and send it a signal when it has imported a module.

    The command runs beside the test meanwhile, so the signal comes at that moment or a little
    later.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "feedsvc", *map(str, arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"FEEDSVC_SERVER": "127.0.0.1:1"},
    )
    assert process.stderr is not None
    errors = b""
    try:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            async for line in process.stderr:
                name = line.rpartition(b"|")[2].strip().decode()
                if not line.startswith(b"import time:"):
                    errors += line
                elif name == module:
                    process.send_signal(number)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, "", errors.decode())


@pytest.mark.parametrize("module", MODULES)
async def test_ctrl_c_during_the_imports_of_a_command_ends_it_without_a_word(module: str) -> None:
    ran = await interrupted_after(module, signal.SIGINT, "publish", "alice", "post")
    assert (ran.code, ran.err) in {(-signal.SIGINT, ""), (130, "")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", SERVER_MODULES)
async def test_a_signal_during_the_start_of_a_server_leaves_no_store(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    ran = await interrupted_after(
        module, number, "serve", "--port", 0, "--data-dir", tmp_path / "data"
    )
    assert ran.code in {-number, 128 + number, 0}
    assert not re.search("Traceback|Error", ran.err)
    assert not await stores_in(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_while_the_store_starts_stops_the_server(
    feedsvc: Feedsvc, number: signal.Signals, tmp_path: Path
) -> None:
    process = await feedsvc.start("serve", "--port", 0, "--data-dir", tmp_path)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            # The file exists just before the store starts.
            while not (tmp_path / "store.lock").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            process.send_signal(number)
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert b"stop" in errors
    assert not await stores_in(tmp_path)


async def stores_in(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder and do not end by themselves."""
    lines: list[str] = []
    for _ in range(500):
        lines = [line for line in _command_lines() if str(folder) in line]
        if not lines:
            break
        await asyncio.sleep(0.01)
    return lines


def _command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # the process has ended
    return lines


async def test_sigterm_ends_a_command_in_order(service: Service, feedsvc: Feedsvc) -> None:
    process = await feedsvc.start("tail", "bob")
    assert process.stdout is not None
    await process.stdout.readline()
    process.terminate()
    out, errors = await process.communicate()
    assert (process.returncode, out, errors) == (143, b"", b"")


async def test_ctrl_c_during_a_publish_says_how_to_repeat_it(feedsvc: Feedsvc) -> None:
    is_called = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin an HTTP/2 connection with two frames, SETTINGS and its acknowledgement."""
        writer.write(b"\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0")
        received = b""
        while data := await reader.read(65_536):
            received += data
            if b"PublishActivity" in received:
                is_called.set()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        process = await feedsvc.start(
            "publish", "alice", "post", "--content", "two words", "--server", f"127.0.0.1:{port}"
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await is_called.wait()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert process.returncode == 130
    first, rule, command = errors.decode().splitlines()
    assert first == "Interrupted"
    assert rule == (
        "The activity may have been published. This command publishes it only if it was not, "
        "for 24 hours:"
    )
    assert re.fullmatch(
        r".*python\S* -m feedsvc publish --request-id [0-9a-f]{32} alice post "
        rf"--content 'two words' --server 127\.0\.0\.1:{port}",
        command,
    )
