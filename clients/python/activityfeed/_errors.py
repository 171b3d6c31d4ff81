"""Details of the errors that the service sends with a failed call or a refused entry."""

from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_Detail = TypeVar("_Detail", bound=Message)


def reason(error: grpc.RpcError | Status) -> str:
    """Return why a call, or an entry of a batch, failed: a name of ErrorReason without its prefix.

    An example is ``ACTIVITY_NOT_FOUND``. Return an empty text if the error does not come from the
    service, for example because no connection exists.
    """
    return next((info.reason for info in _details(error, ErrorInfo)), "")


def violations(error: grpc.RpcError | Status) -> list[BadRequest.FieldViolation]:
    """Return the bad fields of a request: ``field`` is a path, ``description`` the broken rule."""
    return [
        violation
        for bad_request in _details(error, BadRequest)
        for violation in bad_request.field_violations
    ]


def retry_after(error: grpc.RpcError | Status) -> float | None:
    """Return the seconds to wait before the next attempt; None if the service names none."""
    retry_infos = _details(error, RetryInfo)
    return retry_infos[0].retry_delay.ToNanoseconds() / 1e9 if retry_infos else None


def fresh_token(error: grpc.RpcError | Status) -> str | None:
    """Return the token to subscribe with after RESUME_TOKEN_EXPIRED; None for any other error.

    The log no longer reaches back to the expired token, and the events up to the fresh token are
    missing. Read the feed or outbox again, and subscribe with the fresh token.
    """
    for info in _details(error, ErrorInfo):
        if info.reason == "RESUME_TOKEN_EXPIRED":
            return info.metadata.get("resume_token")
    return None


def _details(error: grpc.RpcError | Status, kind: type[_Detail]) -> list[_Detail]:
    if not isinstance(error, Status):
        metadata: Any = getattr(error, "trailing_metadata", tuple)() or ()
        raw = next((value for key, value in metadata if key == "grpc-status-details-bin"), b"")
        error = Status.FromString(raw)
    details = []
    for packed in error.details:
        detail = kind()
        if packed.Unpack(detail):
            details.append(detail)
    return details
