"""Stands between the service and its store, and cuts connections at the worst moments.

A reply that has arrived here tells that its command was executed. When told to, the proxy passes on
the first bytes of it, or none, and hangs up on both sides.
"""

import asyncio
import contextlib
import random
from pathlib import Path

#: Bytes that are passed on at a time.
CHUNK = 65_536


class Proxy:
    """Listens on one unix socket and connects to another for each connection."""

    def __init__(self, listens: Path, store: Path, chance: random.Random) -> None:
        self._listens = listens
        self.store = store
        """Where new connections lead; those that are open stay."""
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None] | None, set[asyncio.StreamWriter]] = {}
        self.cutting = 0.0
        """The probability with which a reply is cut."""
        self.delay = 0.0
        """Seconds that a reply is held back at the most."""
        self.cuts = 0
        """Replies of which nothing was passed on."""
        self.torn = 0
        """Replies of which only the beginning was passed on."""
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._deaf: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._listens)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()
        await asyncio.gather(*(task for task in self._open if task is not None))

    def silence_subscribers(self) -> None:
        """Swallows from now on what the open connections of subscribers bring; they stay open."""
        self._deaf |= self._subscribers

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.store)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_store, to_store = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._open[asyncio.current_task()] = {writer, to_store}
        ways = [
            asyncio.create_task(self._pass(reader, to_store, writer, replies=False)),
            asyncio.create_task(self._pass(from_store, writer, writer, replies=True)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for one in self._open.pop(asyncio.current_task()):
            one.close()
        self._subscribers.discard(writer)
        self._deaf.discard(writer)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        *,
        replies: bool,
    ) -> None:
        """Passes on what comes in until a side hangs up, or until a reply is cut."""
        with contextlib.suppress(OSError):
            while part := await reader.read(CHUNK):
                if not replies and b"SUBSCRIBE" in part:
                    self._subscribers.add(client)
                if replies and client in self._deaf:
                    continue
                if replies and self.delay:
                    await asyncio.sleep(self.delay * self._chance.random())
                if replies and self.cutting and self._chance.random() < self.cutting:
                    size = self._chance.choice([0, self._chance.randrange(len(part))])
                    if size:
                        self.torn += 1
                        writer.write(part[:size])
                        await writer.drain()
                    else:
                        self.cuts += 1
                    return
                writer.write(part)
                await writer.drain()
