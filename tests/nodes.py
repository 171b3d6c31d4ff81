"""Stores on TCP ports of loopback that are promoted and demoted, Sentinels, and what is between."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
from redis.asyncio import Redis

from feedsvc.embedded import find_server
from tests.harness.processes import Process, find_free_port
from tests.serving import wait_until

#: The name under which Sentinels watch the service.
SENTINEL_SERVICE = "feeds"
#: Seconds after which a Sentinel takes a silent primary for dead, in milliseconds.
DOWN_MS = 500


class Node:
    """One store on a port of its own."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        folder.mkdir()
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "save": ""}
        settings |= {"repl-diskless-sync-delay": 0, "enable-debug-command": "yes"}
        arguments = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        command = [binary or str(find_server().path), *arguments, *options]
        self.process = Process(folder.name, command, folder / "log", {})
        self.redis = Redis.from_url(self.url, protocol=2, decode_responses=True)

    async def start(self) -> None:
        self.process.launch()
        await self.process.wait_for_line("Ready to accept")

    async def stop(self) -> None:
        await self.redis.aclose()
        self.process.kill()

    async def follow(self, primary: "Node") -> None:
        """Becomes a replica and waits until it has what the primary has."""
        await self.redis.replicaof("127.0.0.1", primary.port)

        async def synced() -> bool:
            return (await self.redis.info("replication")).get("master_link_status") == "up"

        await wait_until(synced)

    async def promote(self) -> None:
        await self.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def primary_with_replica(folder: Path, *options: str) -> AsyncIterator[tuple[Node, Node]]:
    """A primary and its replica."""
    async with AsyncExitStack() as stack:
        nodes = []
        for name in ("a", "b"):
            node = Node(folder / name, *options)
            stack.push_async_callback(node.stop)
            await node.start()
            nodes.append(node)
        await nodes[1].follow(nodes[0])
        yield nodes[0], nodes[1]


@asynccontextmanager
async def sentinel(folder: Path, primary: Node, *lines: str) -> AsyncIterator[Redis]:
    """A Sentinel that watches a primary; its client."""
    binary = shutil.which("redis-sentinel")
    if binary is None:
        reason = "tests of Sentinels need redis-sentinel on PATH (apt install redis-sentinel)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    port = find_free_port()
    config = folder / "sentinel.conf"
    settings = [
        *(f"port {port}", "bind 127.0.0.1", f"dir {folder}", 'logfile ""'),
        f"sentinel monitor {SENTINEL_SERVICE} 127.0.0.1 {primary.port} 1",
        f"sentinel down-after-milliseconds {SENTINEL_SERVICE} {DOWN_MS}",
        f"sentinel failover-timeout {SENTINEL_SERVICE} 5000",
        *lines,
    ]
    _write(config, settings)
    process = Process("sentinel", [binary, str(config)], folder / "log", {})
    process.launch()
    client = Redis(port=port, decode_responses=True)
    try:
        await process.wait_for_line("+monitor")

        async def knows_the_replica() -> bool:
            found = (await client.sentinel_masters())[SENTINEL_SERVICE]
            return int(found["num-slaves"]) > 0

        await wait_until(knows_the_replica)
        yield client
    finally:
        await client.aclose()
        process.kill()


def _write(config: Path, lines: list[str]) -> None:
    config.parent.mkdir()
    config.write_text("\n".join(lines) + "\n")


class Switch:
    """A TCP port that leads to one node or another, as an address does that is pointed elsewhere.

    Connections that are open stay with their node. What they bring can be swallowed: they are then
    open and silent.
    """

    def __init__(self, target: Node | str) -> None:
        self.target = target
        """Where new connections lead: a node, or the path of a socket."""
        self._server: asyncio.Server | None = None
        self._deaf: set[asyncio.StreamWriter] = set()
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence_subscribers(self) -> None:
        """Swallows from now on what open connections of subscribers bring; they stay open."""
        self._deaf |= self._subscribers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if isinstance(self.target, str):
                from_store, to_store = await asyncio.open_unix_connection(self.target)
            else:
                from_store, to_store = await asyncio.open_connection("127.0.0.1", self.target.port)
            with contextlib.closing(to_store):
                ways = [
                    asyncio.create_task(self._pass(reader, to_store, writer)),
                    asyncio.create_task(self._pass(from_store, writer, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._subscribers.discard(writer)
            self._tasks.discard(task)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(65_536):
                if b"SUBSCRIBE" in part and writer is not client:
                    self._subscribers.add(client)
                if client in self._deaf and writer is client:
                    continue
                writer.write(part)
                await writer.drain()
