"""Stands between a client and its server, and breaks connections as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Bytes that are passed on at a time.
CHUNK = 65_536


class Wire:
    """Listens on a port of its own and connects to that of a server for each connection."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._ways: set[asyncio.Task[None]] = set()
        self._stalled: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        """That there have been."""
        self.cut_after = 0
        """Bytes to the client after which a connection is cut."""
        self.cuts = 0
        """That there are to be."""

    @classmethod
    @asynccontextmanager
    async def to(cls, server: int) -> AsyncIterator["Wire"]:
        """A wire to the server on a port."""
        wire = cls(server)
        async with asyncio.TaskGroup() as connections:
            listening = await asyncio.start_server(
                lambda *ends: connections.create_task(wire._pass_on(*ends)), "127.0.0.1", 0
            )
            wire.port = listening.sockets[0].getsockname()[1]
            try:
                yield wire
            finally:
                listening.close()
                for way in wire._ways:
                    way.cancel()

    def stall(self) -> None:
        """Passes on nothing more of the connections that there are, and does not close them."""
        self._stalled |= self._ways

    async def _pass_on(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._server)
        except OSError:
            to_client.transport.abort()
            return
        ways = [
            asyncio.create_task(self._pass(client, to_server, replies=False)),
            asyncio.create_task(self._pass(server, to_client, replies=True)),
        ]
        self._ways.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        self._ways.difference_update(ways)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for writer in (to_client, to_server):
            writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        """Passes on what comes in until a side hangs up, or until the connection is cut."""
        passed = 0
        while part := await reader.read(CHUNK):
            if asyncio.current_task() in self._stalled:
                await asyncio.Event().wait()
            passed += len(part)
            cut = replies and self.cuts > 0 and passed > self.cut_after
            writer.write(part[: len(part) // 2] if cut else part)
            await writer.drain()
            if cut:
                self.cuts -= 1
                return
