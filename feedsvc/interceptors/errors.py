"""Error answers: a call whose handler raises an exception ends with a google.rpc.Status."""

import logging
import time
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from feedsvc.error_mapping import code_of, internal_status, status_of, trailing_metadata
from feedsvc.failed_calls import Call, is_defect
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor

log = logging.getLogger(__name__)


class ErrorInterceptor(WrappingInterceptor):
    """The interceptor that maps exceptions to statuses; gRPC would send their text to the caller.

    It also logs the failed calls. An operation of gRPC fails with InternalError when the client has
    gone and gRPC has not yet cancelled the handler. That is no defect, no client reads the status,
    and the log has nothing of it.
    """

    def wrap(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return a handler whose errors become statuses."""
        return _MethodErrors(method.rpartition("/")[2]).wrap(method, handler)


class _MethodErrors(WrappingInterceptor):
    """The wrapper of one method's handler."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return a behaviour that ends the call with the status of the error it raised."""
        name = self._name

        async def guarded(request: Any, context: Any) -> Any:
            began = time.monotonic()
            try:
                return await behaviour(request, context)
            except grpc.aio.InternalError as error:
                log.debug("the client has gone: %s", error)
                await _end(context, internal_status())
            except grpc.aio.BaseError:  # the call has been aborted, or the server has been stopped
                raise
            except Exception as error:  # noqa: BLE001 (every exception must become a status)
                await _fail(Call(name, context, began), context, error)

        return guarded


async def _fail(call: Call, context: Any, error: Exception) -> None:
    """End a call with the status of an error, and log the failure.

    The log leaves out a refusal that no client waits for any more.
    """
    if is_defect(error):
        call.log_failure(error)
    try:
        await _end(context, status_of(error))
    except grpc.aio.AbortError:
        if not is_defect(error) and not _is_late(context):
            call.log_failure(error)
        raise


def _is_late(context: Any) -> bool:
    """Return whether the call's deadline has passed."""
    remaining = context.time_remaining()
    return remaining is not None and remaining <= 0


async def _end(context: Any, status: Status) -> None:
    """End a call with a status, unless its client has gone."""
    try:
        metadata = trailing_metadata(status)
        await context.abort(code_of(status), status.message, trailing_metadata=metadata)
    except grpc.aio.InternalError as error:
        # gRPC itself ends the call when the handler returns after an abort.
        log.debug("the client has gone before its status: %s", error)
