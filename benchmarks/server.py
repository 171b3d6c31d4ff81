"""The server under test, in a process of its own: ``python -m benchmarks.server URL SETTINGS``.

It is the service's own, with an empty RPC beside the contract's. SETTINGS are JSON: ``limits`` by
name, and ``workers``. Prints its port when it serves. Ends when its standard input does, and so
with its parent, however that ends.
"""

import asyncio
import gc
import json
import sys
from typing import Any

import grpc
import uvloop

from feedsvc.config import Config, Limits
from feedsvc.server import Server
from feedsvc.tokens import Tokens

#: Answers with the bytes that EMPTY_ANSWER was last called with.
EMPTY = "/benchmarks.Empty/Call"
EMPTY_ANSWER = "/benchmarks.Empty/SetAnswer"
#: Collects the server's garbage.
COLLECT = "/benchmarks.Empty/Collect"


class Limit(grpc.GenericRpcHandler):
    """An RPC that does nothing, and passes bytes as they are."""

    def __init__(self) -> None:
        self._answer = b""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case method if method == EMPTY:
                return grpc.unary_unary_rpc_method_handler(self._call)
            case method if method == EMPTY_ANSWER:
                return grpc.unary_unary_rpc_method_handler(self._set_answer)
            case method if method == COLLECT:
                return grpc.unary_unary_rpc_method_handler(self._collect)
        return None

    async def _call(self, request: bytes, context: Any) -> bytes:
        del request, context
        return self._answer

    async def _set_answer(self, request: bytes, context: Any) -> bytes:
        del context
        self._answer = request
        return b""

    async def _collect(self, request: bytes, context: Any) -> bytes:
        del request, context
        gc.collect()
        return b""


class MeasuredServer(Server):
    """The service's server with its limit beside it."""

    def register(self, server: grpc.aio.Server, tokens: Tokens) -> None:
        super().register(server, tokens)
        server.add_generic_rpc_handlers((Limit(),))


async def parent_gone() -> None:
    """Waits for the end of standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()


async def _serve(url: str, settings: dict[str, Any]) -> None:
    config = Config(
        redis_url=url,
        port=0,
        drain_seconds=0,
        workers=settings["workers"],
        limits=Limits(**settings["limits"]),
    )
    async with MeasuredServer(config) as server:
        print(server.port, flush=True)
        await parent_gone()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], json.loads(sys.argv[2])))
