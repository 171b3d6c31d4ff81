"""The alternative to live feeds: a server that does nothing but write to streams.

As a program: ``python -m benchmarks.live_bare URL``, of a store; see ``server.py``.

Its SubscribeFeed sends a first message, as ours does, and then what WRITE asks for: a message that
one of ours was, with one event, for each of some activities. For each stream it has put the message
together before, but for the activity's id.

Its LISTEN sends a first message, which is empty, and then what SUBSCRIBE gives. PUBLISH publishes.
"""

import asyncio
import json
import sys
from typing import Any

import grpc.aio
import uvloop
from activityfeed.v1.subscription_service_pb2 import (
    FeedSubscriptionStarted,
    SubscribeFeedResponse,
)
from redis.asyncio import Redis

from benchmarks.live_subscribers import METHOD
from benchmarks.server import Limit, parent_gone

#: Takes a message as it is to be written.
SET_MESSAGE = "/benchmarks.Bare/SetMessage"
#: Writes one for each of the activities that it is asked for, to each stream.
WRITE = "/benchmarks.Bare/Write"
PUBLISH = "/benchmarks.Bare/Publish"
LISTEN = "/benchmarks.Bare/Listen"
CHANNEL = "benchmark"


class Bare(grpc.GenericRpcHandler):
    """Streams of bytes."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._message = SubscribeFeedResponse()
        self._activities: list[bytes] = []
        self._wanted = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case method if method == METHOD.decode():
                return grpc.unary_stream_rpc_method_handler(self._subscribe)
            case method if method == SET_MESSAGE:
                return grpc.unary_unary_rpc_method_handler(self._set_message)
            case method if method == WRITE:
                return grpc.unary_unary_rpc_method_handler(self._write)
            case method if method == PUBLISH:
                return grpc.unary_unary_rpc_method_handler(self._publish)
            case method if method == LISTEN:
                return grpc.unary_stream_rpc_method_handler(self._listen)
        return None

    async def _subscribe(self, request: bytes, context: Any) -> None:
        del request
        first = SubscribeFeedResponse(resume_token="t" * 64, started=FeedSubscriptionStarted())
        await context.write(first.SerializeToString())
        parts: list[bytes] = []
        written = len(self._activities)
        while True:
            while written < len(self._activities):
                parts = parts or self._parts()
                await context.write(self._activities[written].join(parts))
                written += 1
            await self._wanted.wait()

    def _parts(self) -> list[bytes]:
        """A message, without the activity's id where that is text."""
        (event,) = self._message.events.events
        return self._message.SerializeToString().split(event.added.activity.activity.id.encode())

    async def _set_message(self, request: bytes, context: Any) -> bytes:
        del context
        self._message = SubscribeFeedResponse.FromString(request)
        return b""

    async def _write(self, request: bytes, context: Any) -> bytes:
        del context
        self._activities += [one.encode() for one in json.loads(request)]
        self._wanted.set()
        self._wanted.clear()
        return b""

    async def _publish(self, request: bytes, context: Any) -> bytes:
        del context
        await self._redis.publish(CHANNEL, request)
        return b""

    async def _listen(self, request: bytes, context: Any) -> None:
        del request
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for message in channel.listen():
                await context.write(message["data"] if message["type"] == "message" else b"")


async def _serve(url: str) -> None:
    async with Redis.from_url(url, protocol=2) as redis:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Bare(redis), Limit()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await parent_gone()
        await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
