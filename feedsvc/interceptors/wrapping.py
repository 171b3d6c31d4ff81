"""What the interceptors have in common: putting something around a handler of the contract's services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]

PREFIX = "/activityfeed.v1."


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Puts ``around`` around every handler of the contract; health and reflection are left alone."""

    def around(self, behaviour: Behaviour) -> Behaviour:
        """The handler to call instead."""
        raise NotImplementedError

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(PREFIX):
            return handler  # type: ignore[no-any-return]
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self.around(handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self.around(handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )
