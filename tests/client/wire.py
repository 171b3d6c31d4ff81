"""A proxy between a client and its server that cuts connections after a number of bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.harness.proxy import Connection, CutReply, Ends, Proxy


class Wire(Proxy):
    """A port of its own that leads to the port of a server."""

    def __init__(self, server_port: int) -> None:
        super().__init__()
        self._server_port = server_port
        self.port = 0
        self.connections = 0
        """Number of connections so far."""
        self.cut_after = 0
        """Bytes to the client after which the wire cuts a connection."""
        self.cuts = 0
        """Number of connections that the wire is still to cut."""

    @classmethod
    @asynccontextmanager
    async def to(cls, server_port: int) -> AsyncIterator["Wire"]:
        """Open a wire to the server on a port."""
        wire = cls(server_port)
        wire.port = await wire.listen_on_port()
        try:
            yield wire
        finally:
            await wire.stop()

    async def connect(self) -> Ends:
        self.connections += 1
        return await asyncio.open_connection("127.0.0.1", self._server_port)

    async def disturb(self, connection: Connection, reply: bytes) -> bytes:
        if self.cuts > 0 and connection.reply_bytes > self.cut_after:
            self.cuts -= 1
            raise CutReply(reply[: len(reply) // 2])
        return reply
