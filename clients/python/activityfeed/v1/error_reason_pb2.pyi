from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_FIELD: _ClassVar[ErrorReason]
    ERROR_REASON_PAGE_TOKEN_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_RESUME_TOKEN_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_ACTIVITY_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_THE_ACTOR: _ClassVar[ErrorReason]
    ERROR_REASON_ACTIVITY_DELETED: _ClassVar[ErrorReason]
    ERROR_REASON_EXTERNAL_ID_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_REQUEST_ID_REUSED: _ClassVar[ErrorReason]
    ERROR_REASON_BEFORE_RETENTION: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_FOLLOWEES: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_FANOUT_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_DEAD_LETTER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_RESUME_TOKEN_EXPIRED: _ClassVar[ErrorReason]
    ERROR_REASON_STREAM_EXPIRED: _ClassVar[ErrorReason]
    ERROR_REASON_STREAM_NOT_READ: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_USERS: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_FIELD: ErrorReason
ERROR_REASON_PAGE_TOKEN_INVALID: ErrorReason
ERROR_REASON_RESUME_TOKEN_INVALID: ErrorReason
ERROR_REASON_ACTIVITY_NOT_FOUND: ErrorReason
ERROR_REASON_NOT_THE_ACTOR: ErrorReason
ERROR_REASON_ACTIVITY_DELETED: ErrorReason
ERROR_REASON_EXTERNAL_ID_CONFLICT: ErrorReason
ERROR_REASON_REQUEST_ID_REUSED: ErrorReason
ERROR_REASON_BEFORE_RETENTION: ErrorReason
ERROR_REASON_TOO_MANY_FOLLOWEES: ErrorReason
ERROR_REASON_STORE_UNAVAILABLE: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_FANOUT_OVERLOADED: ErrorReason
ERROR_REASON_DEAD_LETTER_NOT_FOUND: ErrorReason
ERROR_REASON_RESUME_TOKEN_EXPIRED: ErrorReason
ERROR_REASON_STREAM_EXPIRED: ErrorReason
ERROR_REASON_STREAM_NOT_READ: ErrorReason
ERROR_REASON_TOO_MANY_USERS: ErrorReason
