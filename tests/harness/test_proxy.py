import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from tests.harness.proxy import RandomProxy

REPLY = b"0123456789"


class EchoStore:
    """Answers each command with ten bytes, and counts the commands."""

    def __init__(self) -> None:
        self.executed = 0
        self.tasks: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        while await reader.read(100):
            self.executed += 1
            writer.write(REPLY)
        writer.close()


async def send_command(
    folder: Path, cut_probability: float, seed: int
) -> tuple[int, bytes, RandomProxy]:
    """Send a command through a proxy; return how often it was executed, and the reply."""
    store = EchoStore()
    server = await asyncio.start_unix_server(store.serve, folder / "store")
    proxy = RandomProxy(folder / "store", random.Random(seed))
    proxy.cut_probability = cut_probability
    await proxy.listen_on_socket(folder / "proxy")
    try:
        reader, writer = await asyncio.open_unix_connection(folder / "proxy")
        writer.write(b"command")
        reply = await (reader.read() if cut_probability else reader.readexactly(len(REPLY)))
        writer.close()
    finally:
        await proxy.stop()
        server.close()
        await asyncio.gather(*(task for task in store.tasks if task))
    return store.executed, reply, proxy


async def test_proxy_passes_commands_and_replies(tmp_path: Path) -> None:
    executed, reply, _ = await send_command(tmp_path, 0.0, 1)
    assert (executed, reply) == (1, REPLY)


@pytest.mark.parametrize("seed", range(6))
async def test_proxy_cuts_a_reply_after_the_store_executed_its_command(
    tmp_path: Path, seed: int
) -> None:
    executed, reply, proxy = await send_command(tmp_path, 1.0, seed)
    assert executed == 1
    assert REPLY.startswith(reply)
    assert len(reply) < len(REPLY)
    assert (proxy.unsent_replies, proxy.torn_replies) == ((0, 1) if reply else (1, 0))


async def test_proxy_hangs_up_without_a_store(tmp_path: Path) -> None:
    proxy = RandomProxy(tmp_path / "store", random.Random(1))
    await proxy.listen_on_socket(tmp_path / "proxy")
    try:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "proxy")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    finally:
        await proxy.stop()
