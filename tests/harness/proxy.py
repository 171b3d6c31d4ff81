"""Proxies that stand between clients and a server, and break connections as networks do."""

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from pathlib import Path

#: Bytes that a proxy passes on at a time.
CHUNK_BYTES = 65_536

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """A connection of a client, and the connection to the server that continues it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.is_subscriber = False
        """True if the client has sent a SUBSCRIBE command."""
        self.drops_requests = False
        self.drops_replies = False
        self.reply_bytes = 0
        """Bytes that the server has sent."""


class CutReply(Exception):
    """The proxy ends a connection after it has passed on the first bytes of a reply, or none."""

    def __init__(self, passed: bytes = b"") -> None:
        super().__init__(f"cut after {len(passed)} bytes")
        self.passed = passed


class Proxy(ABC):
    """Listens on a socket or a port, and connects to a server for each connection."""

    def __init__(self) -> None:
        self._listener: asyncio.Server | None = None
        self._is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    @abstractmethod
    async def connect(self) -> Ends:
        """Open a connection to the server. Raise OSError if the server does not listen."""

    async def disturb(self, connection: Connection, reply: bytes) -> bytes:
        """Return what the client gets of a reply. Raise CutReply to end the connection."""
        return reply

    async def listen_on_socket(self, path: Path) -> None:
        self._listener = await asyncio.start_unix_server(self._serve, path)

    async def listen_on_port(self) -> int:
        """Listen on a free port of loopback; return the port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """End all connections and listen no more."""
        self._is_stopped = True
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            connection.client.transport.abort()
            connection.server.transport.abort()
        await asyncio.gather(*self._tasks)

    def silence_subscribers(self) -> None:
        """Drop all further replies to clients that have subscribed; keep their connections open."""
        for connection in self._connections:
            connection.drops_replies |= connection.is_subscriber

    def silence(self) -> None:
        """Drop all further bytes of the present connections; keep them open."""
        for connection in self._connections:
            connection.drops_requests = connection.drops_replies = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            from_server, to_server = await self.connect()
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, to_server)
        if not self._is_stopped:
            await self._pass(reader, from_server, connection)
        connection.client.close()
        connection.server.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        from_server: asyncio.StreamReader,
        connection: Connection,
    ) -> None:
        """Pass bytes in both directions until a side hangs up or a reply is cut."""
        self._connections.add(connection)
        directions = [
            asyncio.create_task(self._pass_requests(reader, connection)),
            asyncio.create_task(self._pass_replies(from_server, connection)),
        ]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        self._connections.discard(connection)

    async def _pass_requests(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while request := await reader.read(CHUNK_BYTES):
                connection.is_subscriber |= b"SUBSCRIBE" in request
                if not connection.drops_requests:
                    connection.server.write(request)
                    await connection.server.drain()

    async def _pass_replies(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while reply := await reader.read(CHUNK_BYTES):
                if connection.drops_replies:
                    continue
                connection.reply_bytes += len(reply)
                try:
                    passed, is_cut = await self.disturb(connection, reply), False
                except CutReply as cut:
                    passed, is_cut = cut.passed, True
                connection.client.write(passed)
                await connection.client.drain()
                if is_cut:
                    return


class RandomProxy(Proxy):
    """A proxy that cuts replies at random and holds them back.

    A reply that has arrived at the proxy proves that the server executed its command. To cut such a
    reply is therefore the worst moment for the client, which does not know what happened.
    """

    def __init__(self, target: Path | int, chance: random.Random) -> None:
        super().__init__()
        self.target = target
        """The socket or the port of loopback to which new connections lead; open ones stay."""
        self._chance = chance
        self.cut_probability = 0.0
        self.max_delay = 0.0
        """Most seconds that the proxy holds a reply back."""
        self.unsent_replies = 0
        """Number of replies of which the client got nothing."""
        self.torn_replies = 0
        """Number of replies of which the client got only the beginning."""

    async def connect(self) -> Ends:
        if isinstance(self.target, int):
            return await asyncio.open_connection("127.0.0.1", self.target)
        return await asyncio.open_unix_connection(self.target)

    async def disturb(self, connection: Connection, reply: bytes) -> bytes:
        if self.max_delay:
            await asyncio.sleep(self.max_delay * self._chance.random())
        if not self.cut_probability or self._chance.random() >= self.cut_probability:
            return reply
        size = self._chance.choice([0, self._chance.randrange(len(reply))])
        if size:
            self.torn_replies += 1
        else:
            self.unsent_replies += 1
        raise CutReply(reply[:size])
