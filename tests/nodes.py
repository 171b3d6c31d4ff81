"""Stores on ports of loopback that can be promoted and demoted, Sentinels, and a switch."""

import asyncio
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
from tests.harness.proxy import Ends, Proxy
from tests.serving import wait_until

#: The name under which Sentinels watch the store of the service.
SENTINEL_SERVICE = "feeds"
#: Milliseconds after which a Sentinel takes a silent primary for dead.
DOWN_MS = 500


class Node:
    """A store process on a port of its own."""

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
        """Make this node a replica, and wait until it holds what the primary holds."""
        await self.redis.replicaof("127.0.0.1", primary.port)

        async def is_synced() -> bool:
            return (await self.redis.info("replication")).get("master_link_status") == "up"

        await wait_until(is_synced)

    async def promote(self) -> None:
        await self.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def primary_with_replica(folder: Path, *options: str) -> AsyncIterator[tuple[Node, Node]]:
    """Start a primary and its replica."""
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
    """Start a Sentinel that watches a primary; yield the Sentinel's client."""
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
            primary_state = (await client.sentinel_masters())[SENTINEL_SERVICE]
            return int(primary_state["num-slaves"]) > 0

        await wait_until(knows_the_replica)
        yield client
    finally:
        await client.aclose()
        process.kill()


def _write(config: Path, lines: list[str]) -> None:
    config.parent.mkdir()
    config.write_text("\n".join(lines) + "\n")


class Switch(Proxy):
    """A TCP port that leads to a node, as an address does that can be pointed to another one.

    Open connections stay with their node when the switch is pointed elsewhere.
    """

    def __init__(self, target: Node | str) -> None:
        super().__init__()
        self.target = target
        """The node, or the path of the socket, to which new connections lead."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = f"redis://127.0.0.1:{await self.listen_on_port()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def connect(self) -> Ends:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target.port)
