"""The mapping of the domain's errors to google.rpc.Status. No other module knows both.

A caller sees the text of a FeedError. Any other exception is a defect: the caller gets INTERNAL
without its text, and ``failed_calls.py`` logs the defect.
"""

import grpc
from activityfeed.v1.error_reason_pb2 import ErrorReason
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from feedsvc import errors

#: The domain of every ErrorInfo.
DOMAIN = "feedsvc"
#: Trailing metadata: the serialised google.rpc.Status.
DETAILS_KEY = "grpc-status-details-bin"
#: Trailing metadata: milliseconds after which gRPC's own retries may be sent (gRFC A6); negative:
#: gRPC must not retry.
PUSHBACK_KEY = "grpc-retry-pushback-ms"
#: Milliseconds before a retry of a call that ended with UNAVAILABLE.
RETRY_MS = 200
#: Milliseconds before a retry of a call that was refused until other work is done.
OVERLOADED_RETRY_MS = 1_000

#: The status code and the reason of each error.
CODES: dict[type[errors.FeedError], tuple[grpc.StatusCode, ErrorReason]] = {
    errors.InvalidRequest: (
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_INVALID_FIELD,
    ),
    errors.PageTokenInvalid: (
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID,
    ),
    errors.ResumeTokenInvalid: (
        grpc.StatusCode.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_RESUME_TOKEN_INVALID,
    ),
    errors.ActivityNotFound: (
        grpc.StatusCode.NOT_FOUND,
        ErrorReason.ERROR_REASON_ACTIVITY_NOT_FOUND,
    ),
    errors.NotTheActor: (
        grpc.StatusCode.PERMISSION_DENIED,
        ErrorReason.ERROR_REASON_NOT_THE_ACTOR,
    ),
    errors.ActivityDeleted: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_ACTIVITY_DELETED,
    ),
    errors.ExternalIdConflict: (
        grpc.StatusCode.ALREADY_EXISTS,
        ErrorReason.ERROR_REASON_EXTERNAL_ID_CONFLICT,
    ),
    errors.RequestIdReused: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
    ),
    errors.BeforeRetention: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_BEFORE_RETENTION,
    ),
    errors.ExternalIdExpired: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_EXTERNAL_ID_EXPIRED,
    ),
    errors.TooManyFollowees: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_TOO_MANY_FOLLOWEES,
    ),
    errors.FanoutOverloaded: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_FANOUT_OVERLOADED,
    ),
    errors.ServerOverloaded: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        ErrorReason.ERROR_REASON_SERVER_OVERLOADED,
    ),
    errors.DeadLetterNotFound: (
        grpc.StatusCode.NOT_FOUND,
        ErrorReason.ERROR_REASON_DEAD_LETTER_NOT_FOUND,
    ),
    errors.StoreUnavailable: (
        grpc.StatusCode.UNAVAILABLE,
        ErrorReason.ERROR_REASON_STORE_UNAVAILABLE,
    ),
    errors.Draining: (grpc.StatusCode.UNAVAILABLE, ErrorReason.ERROR_REASON_DRAINING),
    errors.StreamExpired: (
        grpc.StatusCode.UNAVAILABLE,
        ErrorReason.ERROR_REASON_STREAM_EXPIRED,
    ),
    errors.StreamNotRead: (
        grpc.StatusCode.ABORTED,
        ErrorReason.ERROR_REASON_STREAM_NOT_READ,
    ),
    errors.ResumeTokenExpired: (
        grpc.StatusCode.OUT_OF_RANGE,
        ErrorReason.ERROR_REASON_RESUME_TOKEN_EXPIRED,
    ),
    errors.TooManySubscriptions: (
        grpc.StatusCode.FAILED_PRECONDITION,
        ErrorReason.ERROR_REASON_TOO_MANY_SUBSCRIPTIONS,
    ),
    errors.TooManyStreams: (
        grpc.StatusCode.UNAVAILABLE,
        ErrorReason.ERROR_REASON_TOO_MANY_STREAMS,
    ),
}
_CODES_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


_INTERNAL = (grpc.StatusCode.INTERNAL, ErrorReason.ERROR_REASON_INTERNAL)


def refusal_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status code and the reason that the caller gets for an error."""
    code_and_reason = CODES.get(type(error)) if isinstance(error, errors.FeedError) else None
    code, reason = code_and_reason or _INTERNAL
    return code, _reason_name(reason)


def status_of(error: Exception, max_violations: int | None = None) -> Status:
    """Return the status that answers the caller.

    The status of an InvalidRequest names up to ``max_violations`` violations; None: all of them.
    """
    code_and_reason = CODES.get(type(error)) if isinstance(error, errors.FeedError) else None
    if code_and_reason is None:
        return internal_status()
    code, reason = code_and_reason
    metadata: dict[str, str] = {}
    details: list[Message] = []
    match error:
        case errors.InvalidRequest(violations=violations):
            details.append(
                BadRequest(
                    field_violations=[
                        BadRequest.FieldViolation(field=violation.field, description=violation.rule)
                        for violation in violations[:max_violations]
                    ]
                )
            )
        case errors.PageTokenInvalid():
            details.append(_violation("page_token", str(error)))
        case errors.ResumeTokenInvalid():
            details.append(_violation("resume_token", str(error)))
        case errors.ExternalIdConflict(activity_id=activity_id):
            metadata["activity_id"] = str(activity_id)
        case errors.ResumeTokenExpired(resume_token=token):
            metadata["resume_token"] = token
        case errors.TooManyFollowees(limit=limit) | errors.TooManySubscriptions(limit=limit):
            metadata["limit"] = str(limit)
        case errors.StoreUnavailable() | errors.Draining() | errors.StreamExpired():
            details.append(_retry(RETRY_MS))
        case errors.FanoutOverloaded() | errors.ServerOverloaded() | errors.TooManyStreams():
            details.append(_retry(OVERLOADED_RETRY_MS))
    return _status(code, str(error), [_info(reason, metadata), *details])


def trailing_metadata(status: Status) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata that ends a call: the status, and when gRPC itself may retry.

    A client retries UNAVAILABLE after its own backoff, which grows, so only RESOURCE_EXHAUSTED says
    when.
    """
    details = (DETAILS_KEY, status.SerializeToString())
    if status.code != grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
        return (details,)
    for packed in status.details:
        retry = RetryInfo()
        if packed.Unpack(retry):
            return details, (PUSHBACK_KEY, str(retry.retry_delay.ToMilliseconds()))
    return details, (PUSHBACK_KEY, "-1")


def internal_status() -> Status:
    """Return the status of a call that failed by a defect, which the caller must not see."""
    info = _info(ErrorReason.ERROR_REASON_INTERNAL, {})
    return _status(grpc.StatusCode.INTERNAL, "internal error", [info])


def code_of(status: Status) -> grpc.StatusCode:
    """Return the status's code as gRPC's enum."""
    return _CODES_BY_NUMBER[status.code]


def _info(reason: ErrorReason, metadata: dict[str, str]) -> ErrorInfo:
    return ErrorInfo(reason=_reason_name(reason), domain=DOMAIN, metadata=metadata)


def _reason_name(reason: ErrorReason) -> str:
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def _retry(ms: int) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(ms)
    return RetryInfo(retry_delay=delay)


def _violation(field: str, rule: str) -> BadRequest:
    violation = BadRequest.FieldViolation(field=field, description=rule)
    return BadRequest(field_violations=[violation])


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> Status:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
