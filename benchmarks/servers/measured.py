"""The server under test: ``python -m benchmarks.servers.measured URL SETTINGS``.

The server is the service's own, with an empty RPC beside the contract's. URL is that of a store.
SETTINGS are JSON: ``limits`` by name, and ``workers``. The server prints its port when it serves.
It ends when its standard input does, and so with its parent, however the parent ends.
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

#: Method that answers with the bytes that the last call of EMPTY_ANSWER sent.
EMPTY = "/benchmarks.Empty/Call"
EMPTY_ANSWER = "/benchmarks.Empty/SetAnswer"
#: Method that collects the server's garbage.
COLLECT = "/benchmarks.Empty/Collect"


class EmptyRpc(grpc.GenericRpcHandler):
    """An RPC that does nothing, and passes bytes as they are: the limit of any other RPC."""

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
    """The service's server, with the empty RPC beside its own."""

    def register(self, server: grpc.aio.Server, tokens: Tokens) -> None:
        super().register(server, tokens)
        server.add_generic_rpc_handlers((EmptyRpc(),))


async def parent_gone() -> None:
    """Wait for the end of standard input."""
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
