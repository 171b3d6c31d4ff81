"""Validation of requests: a bad request does not reach its handler."""

from typing import Any

from feedsvc import validation
from feedsvc.failed_calls import REQUEST_ID
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor


class ValidationInterceptor(WrappingInterceptor):
    """The interceptor that checks each request by its rules.

    It stands inside the error interceptor, which answers its refusals.
    """

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return a behaviour that checks the request first."""

        async def checked(request: Any, context: Any) -> Any:
            try:
                validation.check(request)
                return await behaviour(request, context)
            except Exception:
                REQUEST_ID.set(getattr(request, "request_id", ""))  # for the log
                raise

        return checked
