from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
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

class FeedDifferenceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEED_DIFFERENCE_KIND_UNSPECIFIED: _ClassVar[FeedDifferenceKind]
    FEED_DIFFERENCE_KIND_MISSING: _ClassVar[FeedDifferenceKind]
    FEED_DIFFERENCE_KIND_EXTRA: _ClassVar[FeedDifferenceKind]
    FEED_DIFFERENCE_KIND_MISPLACED: _ClassVar[FeedDifferenceKind]

class JobKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_KIND_UNSPECIFIED: _ClassVar[JobKind]
    JOB_KIND_DELIVER: _ClassVar[JobKind]
    JOB_KIND_RETRACT: _ClassVar[JobKind]
    JOB_KIND_FLIP: _ClassVar[JobKind]

class ServerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVER_STATE_UNSPECIFIED: _ClassVar[ServerState]
    SERVER_STATE_SERVING: _ClassVar[ServerState]
    SERVER_STATE_DRAINING: _ClassVar[ServerState]

class StoreCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_CONDITION_UNSPECIFIED: _ClassVar[StoreCondition]
    STORE_CONDITION_READY: _ClassVar[StoreCondition]
    STORE_CONDITION_SLOW: _ClassVar[StoreCondition]
    STORE_CONDITION_FULL: _ClassVar[StoreCondition]
    STORE_CONDITION_READ_ONLY: _ClassVar[StoreCondition]
    STORE_CONDITION_LOADING: _ClassVar[StoreCondition]
    STORE_CONDITION_REPLICA: _ClassVar[StoreCondition]
    STORE_CONDITION_FOREIGN: _ClassVar[StoreCondition]
    STORE_CONDITION_GONE: _ClassVar[StoreCondition]

class StorePersistence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_PERSISTENCE_UNSPECIFIED: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_SYNCED_ALWAYS: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_SYNCED_EVERY_SECOND: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_NOT_SYNCED: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_APPEND_ONLY_FILE: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_SNAPSHOTS: _ClassVar[StorePersistence]
    STORE_PERSISTENCE_NONE: _ClassVar[StorePersistence]
FEED_STATE_UNSPECIFIED: FeedState
FEED_STATE_COLD: FeedState
FEED_STATE_BUILDING: FeedState
FEED_STATE_WARM: FeedState
FEED_DIFFERENCE_KIND_UNSPECIFIED: FeedDifferenceKind
FEED_DIFFERENCE_KIND_MISSING: FeedDifferenceKind
FEED_DIFFERENCE_KIND_EXTRA: FeedDifferenceKind
FEED_DIFFERENCE_KIND_MISPLACED: FeedDifferenceKind
JOB_KIND_UNSPECIFIED: JobKind
JOB_KIND_DELIVER: JobKind
JOB_KIND_RETRACT: JobKind
JOB_KIND_FLIP: JobKind
SERVER_STATE_UNSPECIFIED: ServerState
SERVER_STATE_SERVING: ServerState
SERVER_STATE_DRAINING: ServerState
STORE_CONDITION_UNSPECIFIED: StoreCondition
STORE_CONDITION_READY: StoreCondition
STORE_CONDITION_SLOW: StoreCondition
STORE_CONDITION_FULL: StoreCondition
STORE_CONDITION_READ_ONLY: StoreCondition
STORE_CONDITION_LOADING: StoreCondition
STORE_CONDITION_REPLICA: StoreCondition
STORE_CONDITION_FOREIGN: StoreCondition
STORE_CONDITION_GONE: StoreCondition
STORE_PERSISTENCE_UNSPECIFIED: StorePersistence
STORE_PERSISTENCE_SYNCED_ALWAYS: StorePersistence
STORE_PERSISTENCE_SYNCED_EVERY_SECOND: StorePersistence
STORE_PERSISTENCE_NOT_SYNCED: StorePersistence
STORE_PERSISTENCE_APPEND_ONLY_FILE: StorePersistence
STORE_PERSISTENCE_SNAPSHOTS: StorePersistence
STORE_PERSISTENCE_NONE: StorePersistence

class VerifyFeedRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class FeedDifference(_message.Message):
    __slots__ = ("kind", "activity_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
    kind: FeedDifferenceKind
    activity_id: str
    def __init__(self, kind: _Optional[_Union[FeedDifferenceKind, str]] = ..., activity_id: _Optional[str] = ...) -> None: ...

class VerifyFeedResponse(_message.Message):
    __slots__ = ("state", "compared_count", "differences")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMPARED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    compared_count: int
    differences: _containers.RepeatedCompositeFieldContainer[FeedDifference]
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., compared_count: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[FeedDifference, _Mapping]]] = ...) -> None: ...

class RebuildFeedRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class RebuildFeedResponse(_message.Message):
    __slots__ = ("state", "entry_count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    entry_count: int
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., entry_count: _Optional[int] = ...) -> None: ...

class GetFeedStatsRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class GetFeedStatsResponse(_message.Message):
    __slots__ = ("state", "entry_count", "floor", "stored_bytes", "expires_in", "following_count", "pulled_count", "live")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_COUNT_FIELD_NUMBER: _ClassVar[int]
    PULLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    state: FeedState
    entry_count: int
    floor: str
    stored_bytes: int
    expires_in: _duration_pb2.Duration
    following_count: int
    pulled_count: int
    live: bool
    def __init__(self, state: _Optional[_Union[FeedState, str]] = ..., entry_count: _Optional[int] = ..., floor: _Optional[str] = ..., stored_bytes: _Optional[int] = ..., expires_in: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., following_count: _Optional[int] = ..., pulled_count: _Optional[int] = ..., live: bool = ...) -> None: ...

class GetFanoutStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFanoutStatusResponse(_message.Message):
    __slots__ = ("open_count", "waiting_count", "running_count", "inline_count", "lag", "oldest", "followers_per_second", "dead_letter_count")
    OPEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    INLINE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    FOLLOWERS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    open_count: int
    waiting_count: int
    running_count: int
    inline_count: int
    lag: _duration_pb2.Duration
    oldest: FanoutJob
    followers_per_second: float
    dead_letter_count: int
    def __init__(self, open_count: _Optional[int] = ..., waiting_count: _Optional[int] = ..., running_count: _Optional[int] = ..., inline_count: _Optional[int] = ..., lag: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., oldest: _Optional[_Union[FanoutJob, _Mapping]] = ..., followers_per_second: _Optional[float] = ..., dead_letter_count: _Optional[int] = ...) -> None: ...

class GetServerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerStatusResponse(_message.Message):
    __slots__ = ("host_name", "version", "start_time", "state", "stream_count", "max_stream_count", "call_count", "max_call_count", "worker_count", "store")
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
    WORKER_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    host_name: str
    version: str
    start_time: _timestamp_pb2.Timestamp
    state: ServerState
    stream_count: int
    max_stream_count: int
    call_count: int
    max_call_count: int
    worker_count: int
    store: StoreStatus
    def __init__(self, host_name: _Optional[str] = ..., version: _Optional[str] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[ServerState, str]] = ..., stream_count: _Optional[int] = ..., max_stream_count: _Optional[int] = ..., call_count: _Optional[int] = ..., max_call_count: _Optional[int] = ..., worker_count: _Optional[int] = ..., store: _Optional[_Union[StoreStatus, _Mapping]] = ...) -> None: ...

class StoreStatus(_message.Message):
    __slots__ = ("condition", "condition_time", "read_time", "embedded", "product", "version", "used_memory_bytes", "max_memory_bytes", "persistence", "eviction_policy", "key_count", "shard_count", "replica_count", "uptime")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    CONDITION_TIME_FIELD_NUMBER: _ClassVar[int]
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    USED_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PERSISTENCE_FIELD_NUMBER: _ClassVar[int]
    EVICTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    condition: StoreCondition
    condition_time: _timestamp_pb2.Timestamp
    read_time: _timestamp_pb2.Timestamp
    embedded: bool
    product: str
    version: str
    used_memory_bytes: int
    max_memory_bytes: int
    persistence: StorePersistence
    eviction_policy: str
    key_count: int
    shard_count: int
    replica_count: int
    uptime: _duration_pb2.Duration
    def __init__(self, condition: _Optional[_Union[StoreCondition, str]] = ..., condition_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., read_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., embedded: bool = ..., product: _Optional[str] = ..., version: _Optional[str] = ..., used_memory_bytes: _Optional[int] = ..., max_memory_bytes: _Optional[int] = ..., persistence: _Optional[_Union[StorePersistence, str]] = ..., eviction_policy: _Optional[str] = ..., key_count: _Optional[int] = ..., shard_count: _Optional[int] = ..., replica_count: _Optional[int] = ..., uptime: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FanoutJob(_message.Message):
    __slots__ = ("kind", "activity_id", "actor", "to", "queue_time", "delivered_count", "skipped_cold_count", "attempt_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_COLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: JobKind
    activity_id: str
    actor: str
    to: _containers.RepeatedScalarFieldContainer[str]
    queue_time: _timestamp_pb2.Timestamp
    delivered_count: int
    skipped_cold_count: int
    attempt_count: int
    def __init__(self, kind: _Optional[_Union[JobKind, str]] = ..., activity_id: _Optional[str] = ..., actor: _Optional[str] = ..., to: _Optional[_Iterable[str]] = ..., queue_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delivered_count: _Optional[int] = ..., skipped_cold_count: _Optional[int] = ..., attempt_count: _Optional[int] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("id", "job", "error", "failure_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FAILURE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    job: FanoutJob
    error: str
    failure_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., job: _Optional[_Union[FanoutJob, _Mapping]] = ..., error: _Optional[str] = ..., failure_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReplayDeadLettersRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplayDeadLetterResult(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ReplayDeadLettersResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ReplayDeadLetterResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ReplayDeadLetterResult, _Mapping]]] = ...) -> None: ...

class DiscardDeadLettersRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DiscardDeadLetterResult(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class DiscardDeadLettersResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DiscardDeadLetterResult]
    def __init__(self, results: _Optional[_Iterable[_Union[DiscardDeadLetterResult, _Mapping]]] = ...) -> None: ...
