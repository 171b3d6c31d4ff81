"""What the harness breaks is broken as it says."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from tests.faults.proxy import Proxy
from tests.faults.stage import MARK, Stage
from tests.harness.clock import Clock, find_library
from tests.harness.processes import ROOT, Process, ProcessDied
from tests.serving import wait_until

#: Starts a process, stops it, tells its pid, and waits.
PARENT = """
import sys, time
from pathlib import Path
from tests.harness.processes import Process
process = Process("sleeper", ["/bin/sleep", "60"], Path(sys.argv[1]), {})
process.launch()
while "sleep" not in Path(f"/proc/{process.pid}/comm").read_text():
    time.sleep(0.01)
process.pause()
print(process.pid, flush=True)
time.sleep(60)
"""


class Store:
    """Answers each command with ten bytes, and counts."""

    def __init__(self) -> None:
        self.executed = 0
        self.serving: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.current_task())
        while await reader.read(100):
            self.executed += 1
            writer.write(b"0123456789")
        writer.close()


async def through(folder: Path, cutting: float, seed: int) -> tuple[int, bytes, Proxy]:
    """Sends a command through a proxy: how often it was executed, what came back."""
    store = Store()
    server = await asyncio.start_unix_server(store.serve, folder / "store")
    proxy = Proxy(folder / "proxy", folder / "store", random.Random(seed))
    proxy.cutting = cutting
    await proxy.start()
    try:
        reader, writer = await asyncio.open_unix_connection(folder / "proxy")
        writer.write(b"command")
        answer = await (reader.read() if cutting else reader.readexactly(10))
        writer.close()
    finally:
        await proxy.stop()
        server.close()
        await asyncio.gather(*(task for task in store.serving if task))
    return store.executed, answer, proxy


async def test_the_proxy_passes_on(tmp_path: Path) -> None:
    executed, answer, _ = await through(tmp_path, 0.0, 1)
    assert (executed, answer) == (1, b"0123456789")


@pytest.mark.parametrize("seed", range(6))
async def test_a_reply_is_cut_after_its_command_was_executed(tmp_path: Path, seed: int) -> None:
    executed, answer, proxy = await through(tmp_path, 1.0, seed)
    assert executed == 1
    assert b"0123456789".startswith(answer)
    assert len(answer) < 10
    assert (proxy.cuts, proxy.torn) == ((0, 1) if answer else (1, 0))


async def test_without_a_store_the_proxy_hangs_up(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path / "proxy", tmp_path / "store", random.Random(1))
    await proxy.start()
    try:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "proxy")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    finally:
        await proxy.stop()


async def test_a_failover_keeps_what_the_standby_has(tmp_path: Path) -> None:
    """Connections that are open stay with the old primary, which takes no writes once demoted."""
    stage = Stage(tmp_path, "failover", random.Random(1))
    old, new = stage.stores
    through = [Redis.from_url(f"unix://{tmp_path}/proxy.sock", max_connections=1) for _ in range(2)]
    try:
        await stage.store_up()
        await new.up(old)
        await stage.proxy.start()
        await wait_until(lambda: new.has_all_of(old))
        await stage.mark()
        marked = await old.marked()

        async def same() -> bool:
            return await new.redis.exists(MARK) and await new.marked() == marked

        await wait_until(same)
        await through[0].set("kept", 1)
        await old.redis.wait(1, 10_000)
        await new.promote()
        stage.lead_to_standby()
        await through[0].set("lost", 1)
        await through[1].set("kept too", 1)
        await old.demote(new)
        with pytest.raises(ReadOnlyError):
            await through[0].set("refused", 1)
        await wait_until(lambda: old.has_all_of(new))
        for store in stage.stores:
            assert await store.redis.exists("kept", "kept too") == 2
            assert await store.redis.exists("lost", "refused") == 0
        assert await stage.primary.marked() == marked
    finally:
        await asyncio.gather(*(one.aclose() for one in through))
        await stage._stop()


async def test_a_process_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    process = Process("shell", ["/bin/sh", "-c", "echo ready; exit 3"], tmp_path / "log", {})
    process.launch()
    with pytest.raises(ProcessDied, match="shell ended by itself, status 3: ready"):
        await process.wait_for_line("never said")
    process.launch()
    assert await process.wait_for_line("ready") == "ready"
    process.kill()
    process.check()


def test_nothing_outlives_the_harness(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "a stopped process is still there"
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


@pytest.mark.skipif(
    find_library() is None, reason="tests/harness/install-faketime could not get it"
)
def test_clocks_are_stepped_while_a_process_runs(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    script = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clock.environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (0, -3600, -5, 0):
            clock.step(seconds)
            process.stdin.write("?\n")
            process.stdin.flush()
            told, monotonic = map(float, process.stdout.readline().split())
            assert told - time.time() == pytest.approx(seconds, abs=2)
            assert monotonic == pytest.approx(time.monotonic(), abs=2)
        process.send_signal(signal.SIGKILL)
