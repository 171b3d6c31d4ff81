"""Refuses bad requests before a handler sees them."""

from typing import Any

from feedsvc import validate
from feedsvc.interceptors.wrapping import Behaviour, WrappingInterceptor


class ValidationInterceptor(WrappingInterceptor):
    """Checks each request by the rules of ``validate``. Stands inside the error interceptor."""

    def around(self, behaviour: Behaviour) -> Behaviour:
        async def checked(request: Any, context: Any) -> Any:
            validate.check(request)
            return await behaviour(request, context)

        return checked
