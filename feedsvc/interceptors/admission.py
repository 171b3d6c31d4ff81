"""Lets calls begin when it is their caller's turn, and refuses what is too much.

A call that answers once is a coroutine here that reads its request itself: until it is the call's
turn the request stays at the client, in HTTP/2's flow control. On the wire that is the same.
"""

from typing import Any

import grpc

from feedsvc.admission import CURRENT, Admission
from feedsvc.batches import ENTRIES
from feedsvc.core.batching import CALLER
from feedsvc.errors import InvalidRequest, Violation
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor
from feedsvc.validate import REQUEST_BYTES

#: How much of its caller's share a batch takes; other calls take 1.
BATCH_WEIGHT = 16


class AdmissionInterceptor(WrappingInterceptor):
    """Stands inside the error interceptor, and outside of the one that decodes."""

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Of streams: their commands take turns with those of other callers."""

        async def known(requests: Any, context: Any) -> Any:
            CALLER.set(context.peer())
            return await behaviour(requests, context)

        return known

    def wrap(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        if handler.request_streaming or handler.response_streaming:
            return super().wrap(method, handler)
        serve, admission = handler.unary_unary, self._admission
        batch = method.rpartition("/")[2] in ENTRIES
        weight = BATCH_WEIGHT if batch else 1

        async def admitted(_requests: Any, context: Any) -> Any:
            caller = context.peer()
            turn = admission.enter(caller, weight)
            context.add_done_callback(turn.leave)  # when the answer has left, too
            try:
                if turn.begin is not None:
                    await turn.begin
                CALLER.set(caller)
                CURRENT.set(turn)
                request = await context.read()
                if request is grpc.aio.EOF:
                    raise InvalidRequest([Violation("", "is required")])
                size = len(request.raw)
                if size > REQUEST_BYTES and not batch:
                    rule = f"must have at most {REQUEST_BYTES} bytes"
                    raise InvalidRequest([Violation("", rule)])
                turn.hold(size)
                return await serve(request, context)
            finally:
                turn.rest()

        return grpc.stream_unary_rpc_method_handler(
            admitted, handler.request_deserializer, handler.response_serializer
        )
