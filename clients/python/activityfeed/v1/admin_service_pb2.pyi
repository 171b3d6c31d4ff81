from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEED_STATE_UNSPECIFIED: _ClassVar[FeedState]
    FEED_STATE_COLD: _ClassVar[FeedState]
    FEED_STATE_BUILDING: _ClassVar[FeedState]
    FEED_STATE_WARM: _ClassVar[FeedState]
FEED_STATE_UNSPECIFIED: FeedState
FEED_STATE_COLD: FeedState
FEED_STATE_BUILDING: FeedState
FEED_STATE_WARM: FeedState

class VerifyFeedRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class FeedDifference(_message.Message):
    __slots__ = ("kind", "activity_id")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[FeedDifference.Kind]
        KIND_MISSING: _ClassVar[FeedDifference.Kind]
        KIND_EXTRA: _ClassVar[FeedDifference.Kind]
        KIND_MISPLACED: _ClassVar[FeedDifference.Kind]
    KIND_UNSPECIFIED: FeedDifference.Kind
    KIND_MISSING: FeedDifference.Kind
    KIND_EXTRA: FeedDifference.Kind
    KIND_MISPLACED: FeedDifference.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
    kind: FeedDifference.Kind
    activity_id: str
    def __init__(self, kind: _Optional[_Union[FeedDifference.Kind, str]] = ..., activity_id: _Optional[str] = ...) -> None: ...

class VerifyFeedResponse(_message.Message):
    __slots__ = ("state", "compared", "differences")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    compared: int
    differences: _containers.RepeatedCompositeFieldContainer[FeedDifference]
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., compared: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[FeedDifference, _Mapping]]] = ...) -> None: ...

class RebuildFeedRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class RebuildFeedResponse(_message.Message):
    __slots__ = ("state", "entries")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    entries: int
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., entries: _Optional[int] = ...) -> None: ...

class GetFeedStatsRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class GetFeedStatsResponse(_message.Message):
    __slots__ = ("state", "entries", "floor", "bytes", "expires_in", "following", "pulled", "live")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    PULLED_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    entries: int
    floor: str
    bytes: int
    expires_in: _duration_pb2.Duration
    following: int
    pulled: int
    live: bool
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., entries: _Optional[int] = ..., floor: _Optional[str] = ..., bytes: _Optional[int] = ..., expires_in: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., following: _Optional[int] = ..., pulled: _Optional[int] = ..., live: bool = ...) -> None: ...
