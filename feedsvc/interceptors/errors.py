"""Error answers: a call whose handler raises an exception ends with a google.rpc.Status."""

import logging
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from feedsvc.error_mapping import code_of, internal_status, status_of, trailing_metadata
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor

log = logging.getLogger(__name__)


class ErrorInterceptor(WrappingInterceptor):
    """The interceptor that maps exceptions to statuses; gRPC would send their text to the caller.

    An operation of gRPC fails with InternalError when the client has gone and gRPC has not yet
    cancelled the handler. That is no defect, and no client reads the status.
    """

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return a behaviour that ends the call with the status of the error it raised."""

        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.InternalError as error:
                log.debug("the client has gone: %s", error)
                status = internal_status()
            except grpc.aio.BaseError:  # the call has been aborted, or the server has been stopped
                raise
            except Exception as error:  # noqa: BLE001 (every exception must become a status)
                status = status_of(error)
            return await _end(context, status)

        return guarded


async def _end(context: Any, status: Status) -> None:
    """End a call with a status, unless its client has gone."""
    try:
        metadata = trailing_metadata(status)
        await context.abort(code_of(status), status.message, trailing_metadata=metadata)
    except grpc.aio.InternalError as error:
        # gRPC itself ends the call when the handler returns after an abort.
        log.debug("the client has gone before its status: %s", error)
