"""Refuses what is no message of its type: broken wire format, strings that are not UTF-8."""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from feedsvc.errors import InvalidRequest, Violation
from feedsvc.interceptors.wrapping import Behaviour, Decoder, WrappingInterceptor


class DecodingInterceptor(WrappingInterceptor):
    """Decodes within the error interceptor: gRPC would send the decoder's text to the caller."""

    def decoder(self, decode: Decoder) -> Decoder:
        return lambda raw: partial(decode, raw)

    def around(self, behaviour: Behaviour) -> Behaviour:
        async def decoded(request: Any, context: Any) -> Any:
            # One request is what ``decoder`` made; many are an iterator over such.
            single = isinstance(request, partial)
            return await behaviour(_message(request) if single else _messages(request), context)

        return decoded


async def _messages(requests: AsyncIterable[Callable[[], Any]]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _message(request)


def _message(request: Callable[[], Any]) -> Any:
    try:
        return request()
    except DecodeError:
        rule = "must be a well-formed message of its type, with strings in UTF-8"
        raise InvalidRequest([Violation("", rule)]) from None
