"""Subscribers, in a process of their own: ``python -m benchmarks.live_subscribers TARGET``.

Each has a SubscribeFeed stream of a user of its own; all are spread over 32 connections. Messages
are decoded, and their events counted. Whether activities have reached all subscribers, and when
the first and the last of them, is told by the clock that all processes of a machine share.

It speaks HTTP/2 by itself, and no more of it than this needs: it grants the server all it could
ever send, answers pings and settings, and looks at no headers but for whether a stream has ended.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import uvloop
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest, SubscribeFeedResponse

from benchmarks import population
from benchmarks.live_helper import obey

CONNECTIONS = 32
#: Streams that are being opened at once.
OPENING = 64
#: Seconds within which an activity must have reached all.
PATIENCE = 60.0
METHOD = b"/activityfeed.v1.SubscriptionService/SubscribeFeed"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
INITIAL_WINDOW = 4
WINDOW, MOST_WINDOW = 2**16 - 1, 2**31 - 1
#: Of a message: whether it is compressed, and its length.
MESSAGE_HEADER = 5


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


def _request_headers() -> bytes:
    """As literals that no table remembers."""
    pairs = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", METHOD),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return b"".join(
        b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in pairs
    )


@dataclass(slots=True)
class Reached:
    """How far an activity has come."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    all: asyncio.Event = field(default_factory=asyncio.Event)


class Connection(asyncio.Protocol):
    """A connection with many streams."""

    def __init__(self, subscribers: "Subscribers") -> None:
        self._subscribers = subscribers
        self._transport: Any = None
        self._rest = b""
        self._streams = 0
        self._partial: dict[int, bytes] = {}
        """Of streams, what they had of a message at the end of a frame."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = INITIAL_WINDOW.to_bytes(2) + MOST_WINDOW.to_bytes(4)
        window = (MOST_WINDOW - WINDOW).to_bytes(4)
        frames = _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, window)
        self._transport.write(PREFACE + frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._subscribers.fail(f"a connection was lost: {exc}")

    def open(self, user: str) -> None:
        stream = 2 * self._streams + 1
        self._streams += 1
        request = SubscribeFeedRequest(user=user).SerializeToString()
        message = b"\0" + len(request).to_bytes(4) + request
        headers = _frame(HEADERS, END_HEADERS, stream, _request_headers())
        self._transport.write(headers + _frame(DATA, END_STREAM, stream, message))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        begin = 0
        while begin + FRAME_HEADER <= len(data):
            payload = begin + FRAME_HEADER
            end = payload + int.from_bytes(data[begin : begin + 3])
            if end > len(data):
                break
            kind, flags = data[begin + 3], data[begin + 4]
            if kind == DATA:
                self._messages(int.from_bytes(data[begin + 5 : payload]), data[payload:end])
            elif kind in {SETTINGS, PING} and not flags & ACK:
                self._transport.write(
                    _frame(kind, ACK, 0, data[payload:end] if kind == PING else b"")
                )
            elif kind in {RST_STREAM, GOAWAY} or (kind == HEADERS and flags & END_STREAM):
                self._subscribers.fail(f"a stream has ended: {data[payload:end]!r}")
            begin = end
        self._rest = data[begin:]

    def _messages(self, stream: int, data: bytes) -> None:
        if stream in self._partial:
            data = self._partial.pop(stream) + data
        begin = 0
        while begin + MESSAGE_HEADER <= len(data):
            end = begin + MESSAGE_HEADER + int.from_bytes(data[begin + 1 : begin + MESSAGE_HEADER])
            if end > len(data):
                break
            self._subscribers.told(data[begin + MESSAGE_HEADER : end])
            begin = end
        if begin < len(data):
            self._partial[stream] = data[begin:]


class Subscribers:
    """All of them."""

    def __init__(self, host: str, port: int) -> None:
        self._at = host, port
        self._connections: list[Connection] = []
        self._free = asyncio.Semaphore(OPENING)
        self._asked = 0
        self._opened = 0
        self._messages = 0
        self._events = 0
        self._reached: dict[str, Reached] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def do(self, what: str, *arguments: Any) -> Any:
        """Does it, unless a stream ends meanwhile, or has ended."""
        works: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "open": self._open,
            "wait": self._wait,
            "count": self._count,
        }
        task = asyncio.create_task(works[what](*arguments))
        await asyncio.wait({task, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        return task.result()

    async def _open(self, count: int) -> None:
        """Opens streams of the first so many users, but those that are open, one at a time."""
        loop = asyncio.get_running_loop()
        while len(self._connections) < CONNECTIONS:
            _, connection = await loop.create_connection(lambda: Connection(self), *self._at)
            self._connections.append(connection)
        users = population.users(count)[self._asked :]
        self._asked = count
        for user, connection in zip(users, cycle(self._connections), strict=False):
            await self._free.acquire()
            connection.open(user)
        for _ in range(OPENING):
            await self._free.acquire()
        for _ in range(OPENING):
            self._free.release()

    async def _wait(self, activity: str) -> tuple[float, float]:
        """Waits until an activity has reached all: when the first, and when the last."""
        reached = self._reached.setdefault(activity, Reached())
        try:
            async with asyncio.timeout(PATIENCE):
                await reached.all.wait()
        except TimeoutError:
            raise RuntimeError(
                f"an activity has reached {reached.count:,} of {self._opened:,} only"
            ) from None
        return reached.first, reached.last

    async def _count(self) -> tuple[int, int]:
        """Messages with activities so far, and activities in them; forgets what has reached all."""
        self._reached.clear()
        return self._messages, self._events

    def told(self, raw: bytes) -> None:
        """A message of some stream."""
        message = SubscribeFeedResponse.FromString(raw)
        if message.HasField("started"):
            self._opened += 1
            self._free.release()
        self._messages += any(event.HasField("added") for event in message.events.events)
        for event in message.events.events:
            if event.HasField("added"):
                self._events += 1
                self._note(event.added.activity.activity.id)

    def _note(self, activity: str) -> None:
        reached = self._reached.get(activity)
        if reached is None:
            reached = self._reached[activity] = Reached()
        reached.count += 1
        if reached.count == 1:
            reached.first = time.monotonic()
        if reached.count == self._opened:
            reached.last = time.monotonic()
            reached.all.set()

    def fail(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(RuntimeError(why))


async def _run(target: str) -> None:
    host, _, port = target.rpartition(":")
    await obey(Subscribers(host, int(port)).do)


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1]))
