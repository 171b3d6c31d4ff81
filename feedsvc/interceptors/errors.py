"""Answers what a handler raises with a google.rpc.Status."""

import logging
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor
from feedsvc.status import code_of, internal, status_of, trailing_metadata

log = logging.getLogger(__name__)


class ErrorInterceptor(WrappingInterceptor):
    """Turns exceptions into statuses; gRPC would send their text to the caller.

    An operation of gRPC's fails with InternalError when the client has gone and gRPC has not
    cancelled the handler yet. That is no defect, and nobody is there to be told.
    """

    def around(self, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.InternalError as error:
                log.debug("the client has gone: %s", error)
                status = internal()
            except grpc.aio.BaseError:  # aborted already, or the server has been stopped
                raise
            except Exception as error:  # noqa: BLE001 (this is the one place that catches all)
                status = status_of(error)
            return await _ended(context, status)

        return guarded


async def _ended(context: Any, status: Status) -> None:
    """Ends a call with a status, unless its client has gone."""
    try:
        metadata = trailing_metadata(status)
        await context.abort(code_of(status), status.message, trailing_metadata=metadata)
    except grpc.aio.InternalError as error:
        # gRPC itself ends the call when the handler returns after an abort.
        log.debug("the client has gone before its status: %s", error)
