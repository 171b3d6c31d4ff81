"""Admission of calls: a call begins when its caller's turn comes, and excess calls are refused.

A call with one request and one response becomes a coroutine that reads its request itself. Until
the call's turn comes, HTTP/2's flow control keeps the request at the client. The bytes on the wire
stay the same.
"""

from typing import Any

import grpc

from feedsvc.admission import CURRENT_TURN, Admission
from feedsvc.batch_requests import ENTRY_TYPES
from feedsvc.contract_limits import REQUEST_BYTES
from feedsvc.core.batching import CALLER
from feedsvc.errors import InvalidRequest, Violation
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor

#: Names of the methods for operators that a full or stopping server answers too. They are cheap.
OPERATOR_METHODS = frozenset({"GetServerStatus"})
#: Part of its caller's share that a batch takes. Other calls take 1.
BATCH_WEIGHT = 16


class AdmissionInterceptor(WrappingInterceptor):
    """The interceptor that admits calls.

    It stands inside the error interceptor, which answers its refusals, and outside the decoding
    interceptor, so that a call waits before the server decodes its request.
    """

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return the handler of a stream with its caller noted.

        The store's commands of a stream take turns with those of other callers.
        """

        async def with_caller(requests: Any, context: Any) -> Any:
            CALLER.set(context.peer())
            return await behaviour(requests, context)

        return with_caller

    def wrap(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler whose calls wait for their turn before their request is read."""
        if handler.request_streaming or handler.response_streaming:
            return super().wrap(method, handler)
        serve, admission = handler.unary_unary, self._admission
        name = method.rpartition("/")[2]
        is_batch, for_operators = name in ENTRY_TYPES, name in OPERATOR_METHODS
        weight = BATCH_WEIGHT if is_batch else 1

        async def admitted(_requests: Any, context: Any) -> Any:
            caller = context.peer()
            turn = admission.enter(caller, weight, for_operators=for_operators)
            # gRPC calls ``leave`` when the answer has left, or when the client has gone.
            context.add_done_callback(turn.leave)
            try:
                if turn.begin is not None:
                    await turn.begin
                CALLER.set(caller)
                CURRENT_TURN.set(turn)
                request = await context.read()
                if request is grpc.aio.EOF:
                    raise InvalidRequest([Violation("", "is required")])
                size = len(request.raw)
                if size > REQUEST_BYTES and not is_batch:
                    rule = f"must have at most {REQUEST_BYTES} bytes"
                    raise InvalidRequest([Violation("", rule)])
                turn.hold(size)
                return await serve(request, context)
            finally:
                turn.release()

        return grpc.stream_unary_rpc_method_handler(
            admitted, handler.request_deserializer, handler.response_serializer
        )
