"""The base of the interceptors: it wraps the handlers of the contract's methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]
Decoder = Callable[[bytes], Any]

#: Prefix of the names of the contract's methods.
PREFIX = "/activityfeed."


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Base of an interceptor that puts ``around`` around the contract's handlers.

    Health and reflection keep their handlers as they are.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        """The wrapped handler of each method. gRPC asks for the handler at every call."""

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return the handler that gRPC is to call instead."""
        raise NotImplementedError

    def decoder(self, decode: Decoder) -> Decoder:
        """Return the function that makes a request of its bytes, before ``around`` gets it."""
        return decode

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handlers of the service's own methods, and leave the others as they are."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler: Any = await continuation(handler_call_details)
        if handler is None or not method.startswith(PREFIX):
            return handler  # type: ignore[no-any-return]
        self._wrapped[method] = wrapped = self.wrap(method, handler)
        return wrapped

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler of a method with ``around`` around it."""
        del method
        decode = self.decoder(handler.request_deserializer)
        encode = _serialiser(handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            around = self.around(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(around, decode, pass_serialised)
        if handler.request_streaming:
            around = self.around(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(around, decode, encode)
        if handler.response_streaming:
            around = self.around(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(around, decode, pass_serialised)
        around = self.around(handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(around, decode, encode)


def _serialiser(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serialiser that passes bytes on.

    Handlers of frequent calls put their answers together from bytes.
    """
    return lambda answer: answer if isinstance(answer, bytes) else serialise(answer)


def pass_serialised(message: bytes) -> bytes:
    """Return a message of a stream or a batch, which its handler has serialised already."""
    return message
