"""Subscribers: streams of SubscribeFeed, held by a helper.

Each stream belongs to another user; all are spread over 32 connections. The helper decodes the
messages and counts their events. A scenario can ask whether activities have reached all
subscribers, and when the first and the last subscriber had them, by the clock that all processes
share.

The helper speaks the part of HTTP/2 that it needs, without a library. It grants the server the
largest windows, answers pings and settings, and reads headers only to see whether a stream ended.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import uvloop
from activityfeed.v1.subscription_service_pb2 import SubscribeFeedRequest, SubscribeFeedResponse

from benchmarks.harness.helper import Pipe, obey
from benchmarks.load import population
from feedsvc.cli.load_test.clock import clock

CONNECTIONS = 32
#: Most streams whose opening the server has not confirmed.
OPENING = 64
#: Seconds within which an activity must reach all subscribers.
PATIENCE = 60.0
METHOD = b"/activityfeed.v1.SubscriptionService/SubscribeFeed"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
INITIAL_WINDOW = 4
DEFAULT_WINDOW, LARGEST_WINDOW = 2**16 - 1, 2**31 - 1
#: Bytes before a message: a flag that says whether it is compressed, and its length.
MESSAGE_HEADER = 5


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    header = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return header + payload


def _request_headers() -> bytes:
    """Return the headers as literals, which need no compression table."""
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
    """The number of subscribers that an activity has reached, and the times."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0
    by_all: asyncio.Event = field(default_factory=asyncio.Event)


class Connection(asyncio.Protocol):
    """An HTTP/2 connection with many streams."""

    def __init__(self, subscribers: "Subscribers") -> None:
        self._subscribers = subscribers
        self._transport: Any = None
        self._partial_frame = b""
        self._streams = 0
        self._partial_messages: dict[int, bytes] = {}
        """The begin of a message at the end of a frame, by stream."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = INITIAL_WINDOW.to_bytes(2) + LARGEST_WINDOW.to_bytes(4)
        window = (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4)
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
        data = self._partial_frame + data
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
        self._partial_frame = data[begin:]

    def _messages(self, stream: int, data: bytes) -> None:
        if stream in self._partial_messages:
            data = self._partial_messages.pop(stream) + data
        begin = 0
        while begin + MESSAGE_HEADER <= len(data):
            end = begin + MESSAGE_HEADER + int.from_bytes(data[begin + 1 : begin + MESSAGE_HEADER])
            if end > len(data):
                break
            self._subscribers.hear(data[begin + MESSAGE_HEADER : end])
            begin = end
        if begin < len(data):
            self._partial_messages[stream] = data[begin:]


class Subscribers:
    """All subscribers of the helper."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._connections: list[Connection] = []
        self._opening = asyncio.Semaphore(OPENING)
        self._requested = 0
        self._opened = 0
        self._messages = 0
        self._events = 0
        self._reached: dict[str, Reached] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def do(self, command: str, *arguments: Any) -> Any:
        """Carry out a command. Raise RuntimeError if a stream has ended, or ends meanwhile."""
        commands: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "open": self._open,
            "wait": self._wait,
            "count": self._count,
        }
        task = asyncio.create_task(commands[command](*arguments))
        await asyncio.wait({task, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        return task.result()

    async def _open(self, count: int) -> None:
        """Open the streams of the first ``count`` users that have none yet."""
        loop = asyncio.get_running_loop()
        while len(self._connections) < CONNECTIONS:
            _, connection = await loop.create_connection(lambda: Connection(self), *self._address)
            self._connections.append(connection)
        users = population.users(count)[self._requested :]
        self._requested = count
        for user, connection in zip(users, cycle(self._connections), strict=False):
            await self._opening.acquire()
            connection.open(user)
        for _ in range(OPENING):
            await self._opening.acquire()
        for _ in range(OPENING):
            self._opening.release()

    async def _wait(self, activity_id: str) -> tuple[float, float]:
        """Return when an activity reached the first and the last subscriber; wait for the last."""
        reached = self._reached.setdefault(activity_id, Reached())
        try:
            async with asyncio.timeout(PATIENCE):
                await reached.by_all.wait()
        except TimeoutError:
            raise RuntimeError(
                f"an activity reached only {reached.count:,} of {self._opened:,} subscribers"
            ) from None
        return reached.first, reached.last

    async def _count(self) -> tuple[int, int]:
        """Return the numbers of messages with activities and of activities. Forget the arrivals."""
        self._reached.clear()
        return self._messages, self._events

    def hear(self, raw: bytes) -> None:
        """Count a message of any stream."""
        message = SubscribeFeedResponse.FromString(raw)
        if message.HasField("started"):
            self._opened += 1
            self._opening.release()
        self._messages += any(event.HasField("added") for event in message.events.events)
        for event in message.events.events:
            if event.HasField("added"):
                self._events += 1
                self._note(event.added.activity.activity.id)

    def _note(self, activity_id: str) -> None:
        reached = self._reached.get(activity_id)
        if reached is None:
            reached = self._reached[activity_id] = Reached()
        reached.count += 1
        if reached.count == 1:
            reached.first = clock()
        if reached.count == self._opened:
            reached.last = clock()
            reached.by_all.set()

    def fail(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(RuntimeError(why))


def run(target: str, pipe: Pipe) -> None:
    """Obey commands in a process of its own."""
    uvloop.run(_run(target, pipe))


async def _run(target: str, pipe: Pipe) -> None:
    host, _, port = target.rpartition(":")
    await obey(pipe, Subscribers(host, int(port)).do)
