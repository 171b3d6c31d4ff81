"""Refuses what is no message of its type: broken wire format, strings that are not UTF-8."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from feedsvc import validate
from feedsvc.batches import ENTRIES, Batch
from feedsvc.interceptors.wrapping import (
    Behaviour,
    Decoder,
    WrappingInterceptor,
    as_it_is,
)


class Undecoded(NamedTuple):
    """A request as it came."""

    raw: bytes
    decode: Decoder

    def message(self) -> Any:
        """Decode it. Raises InvalidRequest."""
        return validate.decoded(self.decode, self.raw)


class DecodingInterceptor(WrappingInterceptor):
    """Decodes within the error interceptor: gRPC would send the decoder's text to the caller."""

    def wrap(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        entry = ENTRIES.get(method.rpartition("/")[2])
        if entry is not None:
            around = self.around(handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(
                around, lambda raw: Undecoded(raw, partial(Batch, entry)), as_it_is
            )
        return super().wrap(method, handler)

    def decoder(self, decode: Decoder) -> Decoder:
        return lambda raw: Undecoded(raw, decode)

    def around(self, behaviour: Behaviour) -> Behaviour:
        async def decoded(request: Any, context: Any) -> Any:
            # One request is what ``decoder`` made; many are an iterator over such.
            single = isinstance(request, Undecoded)
            return await behaviour(request.message() if single else _messages(request), context)

        return decoded


async def _messages(requests: AsyncIterable[Undecoded]) -> AsyncIterator[Any]:
    async for request in requests:
        yield request.message()
