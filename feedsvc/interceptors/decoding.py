"""Decoding of requests: refuses broken wire format and strings that are not UTF-8."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from feedsvc import validation
from feedsvc.batch_requests import ENTRY_TYPES, Batch
from feedsvc.interceptors.wrapping import (
    Behaviour,
    Decoder,
    WrappingInterceptor,
    pass_serialised,
)


class Undecoded(NamedTuple):
    """A request as the client sent it."""

    raw: bytes
    decode: Decoder

    def message(self) -> Any:
        """Return the decoded request. Raise InvalidRequest if it is no message of its type."""
        return validation.decode(self.decode, self.raw)


class DecodingInterceptor(WrappingInterceptor):
    """The interceptor that decodes requests.

    It stands inside the error interceptor: gRPC would send the decoder's own text to the caller.
    """

    def wrap(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler that decodes within ``around``; batches stay cut into raw entries."""
        entry = ENTRY_TYPES.get(method.rpartition("/")[2])
        if entry is not None:
            around = self.around(handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(
                around, lambda raw: Undecoded(raw, partial(Batch, entry)), pass_serialised
            )
        return super().wrap(method, handler)

    def decoder(self, decode: Decoder) -> Decoder:
        """Return a decoder that keeps the bytes, for ``around`` to decode."""
        return lambda raw: Undecoded(raw, decode)

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return a behaviour that decodes the request, or each request of a stream."""

        async def decoded(request: Any, context: Any) -> Any:
            # ``decoder`` makes an Undecoded of one request, and an iterator of a stream's requests.
            is_single = isinstance(request, Undecoded)
            return await behaviour(request.message() if is_single else _messages(request), context)

        return decoded


async def _messages(requests: AsyncIterable[Undecoded]) -> AsyncIterator[Any]:
    async for request in requests:
        yield request.message()
