"""The alternative to live feeds: a server that does nothing but write to streams.

As a program: ``python -m benchmarks.servers.bare URL``. URL is that of a store. The program starts
and ends like `measured`.

Its SubscribeFeed sends a first message, as the service does, and then the messages that WRITE asks
for: for each activity a copy of a message that the service sent, with one event. Each stream
encodes the message once, all but the activity's id.

Its LISTEN sends an empty first message, and then the messages of the store's SUBSCRIBE. Its PUBLISH
calls the store's PUBLISH.
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

from benchmarks.load.subscribers import METHOD
from benchmarks.servers.measured import EmptyRpc, parent_gone

#: Method that sets the message of which WRITE writes copies.
SET_MESSAGE = "/benchmarks.Bare/SetMessage"
#: Method that writes a message for each activity id in a JSON list, to each stream.
WRITE = "/benchmarks.Bare/Write"
PUBLISH = "/benchmarks.Bare/Publish"
LISTEN = "/benchmarks.Bare/Listen"
CHANNEL = "benchmark"


class Bare(grpc.GenericRpcHandler):
    """Streams that get bytes as they are."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._message = SubscribeFeedResponse()
        self._activity_ids: list[bytes] = []
        self._has_new_ids = asyncio.Event()

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
        written = len(self._activity_ids)
        while True:
            while written < len(self._activity_ids):
                parts = parts or self._parts()
                await context.write(self._activity_ids[written].join(parts))
                written += 1
            await self._has_new_ids.wait()

    def _parts(self) -> list[bytes]:
        """Return the parts of the message between which the activity's id stands."""
        (event,) = self._message.events.events
        return self._message.SerializeToString().split(event.added.activity.activity.id.encode())

    async def _set_message(self, request: bytes, context: Any) -> bytes:
        del context
        self._message = SubscribeFeedResponse.FromString(request)
        return b""

    async def _write(self, request: bytes, context: Any) -> bytes:
        del context
        self._activity_ids += [activity_id.encode() for activity_id in json.loads(request)]
        self._has_new_ids.set()
        self._has_new_ids.clear()
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
        server.add_generic_rpc_handlers((Bare(redis), EmptyRpc()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await parent_gone()
        await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
