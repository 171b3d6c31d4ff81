"""Answers what a handler raises with a google.rpc.Status."""

from typing import Any

import grpc

from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor
from feedsvc.status import code_of, status_of, trailing_metadata


class ErrorInterceptor(WrappingInterceptor):
    """Turns exceptions into statuses; gRPC would send their text to the caller."""

    def around(self, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 (this is the one place that catches all)
                status = status_of(error)
            return await context.abort(
                code_of(status),
                status.message,
                trailing_metadata=trailing_metadata(status),
            )

        return guarded
