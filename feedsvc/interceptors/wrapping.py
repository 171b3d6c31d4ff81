"""What the interceptors have in common: putting something around a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]
Decoder = Callable[[bytes], Any]

PREFIX = "/activityfeed."


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Puts ``around`` around the handlers of the contract; leaves health and reflection alone."""

    def __init__(self) -> None:
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        """By method: gRPC asks for the handler at every call."""

    def around(self, behaviour: Behaviour) -> Behaviour:
        """The handler to call instead."""
        raise NotImplementedError

    def decoder(self, decode: Decoder) -> Decoder:
        """What makes the request from its bytes, before ``around`` sees it."""
        return decode

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler: Any = await continuation(handler_call_details)
        if handler is None or not method.startswith(PREFIX):
            return handler  # type: ignore[no-any-return]
        self._wrapped[method] = wrapped = self.wrap(method, handler)
        return wrapped

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method with ``around`` around it."""
        del method
        decode = self.decoder(handler.request_deserializer)
        encode = _serialiser(handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            around = self.around(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(around, decode, as_it_is)
        if handler.request_streaming:
            around = self.around(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(around, decode, encode)
        if handler.response_streaming:
            around = self.around(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(around, decode, as_it_is)
        around = self.around(handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(around, decode, encode)


def _serialiser(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Handlers that are called often put their answers together from bytes."""
    return lambda answer: answer if isinstance(answer, bytes) else serialise(answer)


def as_it_is(message: bytes) -> bytes:
    """Streams and batches answer with messages that are serialised already."""
    return message
