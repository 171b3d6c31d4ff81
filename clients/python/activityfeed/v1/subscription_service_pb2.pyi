from activityfeed.v1 import feed_pb2 as _feed_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscribeFeedRequest(_message.Message):
    __slots__ = ("user", "viewer", "resume_token")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class SubscribeFeedResponse(_message.Message):
    __slots__ = ("user", "resume_token", "events")
    USER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    user: str
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    def __init__(self, user: _Optional[str] = ..., resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ...) -> None: ...

class FeedEvent(_message.Message):
    __slots__ = ("created", "added", "removed", "source_changed", "reset")
    class Created(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Removed(_message.Message):
        __slots__ = ("activity_id",)
        ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
        activity_id: str
        def __init__(self, activity_id: _Optional[str] = ...) -> None: ...
    class SourceChanged(_message.Message):
        __slots__ = ("entity", "following")
        ENTITY_FIELD_NUMBER: _ClassVar[int]
        FOLLOWING_FIELD_NUMBER: _ClassVar[int]
        entity: str
        following: bool
        def __init__(self, entity: _Optional[str] = ..., following: bool = ...) -> None: ...
    class Reset(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    created: FeedEvent.Created
    added: _feed_pb2.FeedItem
    removed: FeedEvent.Removed
    source_changed: FeedEvent.SourceChanged
    reset: FeedEvent.Reset
    def __init__(self, created: _Optional[_Union[FeedEvent.Created, _Mapping]] = ..., added: _Optional[_Union[_feed_pb2.FeedItem, _Mapping]] = ..., removed: _Optional[_Union[FeedEvent.Removed, _Mapping]] = ..., source_changed: _Optional[_Union[FeedEvent.SourceChanged, _Mapping]] = ..., reset: _Optional[_Union[FeedEvent.Reset, _Mapping]] = ...) -> None: ...
