from activityfeed.v1 import activity_pb2 as _activity_pb2
from activityfeed.v1 import feed_pb2 as _feed_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscribeFeedRequest(_message.Message):
    __slots__ = ("user", "viewer", "resume_token", "initial_page_size")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INITIAL_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    initial_page_size: int
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., initial_page_size: _Optional[int] = ...) -> None: ...

class SubscribeFeedResponse(_message.Message):
    __slots__ = ("user", "resume_token", "events", "page")
    USER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    user: str
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    page: _feed_pb2.FeedPage
    def __init__(self, user: _Optional[str] = ..., resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ..., page: _Optional[_Union[_feed_pb2.FeedPage, _Mapping]] = ...) -> None: ...

class SubscribeFeedsRequest(_message.Message):
    __slots__ = ("add", "remove")
    class Remove(_message.Message):
        __slots__ = ("user", "viewer")
        USER_FIELD_NUMBER: _ClassVar[int]
        VIEWER_FIELD_NUMBER: _ClassVar[int]
        user: str
        viewer: str
        def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ...) -> None: ...
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    add: SubscribeFeedRequest
    remove: SubscribeFeedsRequest.Remove
    def __init__(self, add: _Optional[_Union[SubscribeFeedRequest, _Mapping]] = ..., remove: _Optional[_Union[SubscribeFeedsRequest.Remove, _Mapping]] = ...) -> None: ...

class SubscribeFeedsResponse(_message.Message):
    __slots__ = ("user", "viewer", "resume_token", "events", "page", "error", "removed")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    page: _feed_pb2.FeedPage
    error: _status_pb2.Status
    removed: bool
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ..., page: _Optional[_Union[_feed_pb2.FeedPage, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., removed: bool = ...) -> None: ...

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

class SubscribeActivitiesRequest(_message.Message):
    __slots__ = ("entity", "viewer", "resume_token")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    resume_token: str
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class SubscribeActivitiesResponse(_message.Message):
    __slots__ = ("resume_token", "events")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[ActivityEvent]
    def __init__(self, resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[ActivityEvent, _Mapping]]] = ...) -> None: ...

class SubscribeAllRequest(_message.Message):
    __slots__ = ("resume_token",)
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    def __init__(self, resume_token: _Optional[str] = ...) -> None: ...

class SubscribeAllResponse(_message.Message):
    __slots__ = ("resume_token", "events")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[ActivityEvent]
    def __init__(self, resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[ActivityEvent, _Mapping]]] = ...) -> None: ...

class ActivityEvent(_message.Message):
    __slots__ = ("created", "added", "removed")
    class Created(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Removed(_message.Message):
        __slots__ = ("activity_id",)
        ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
        activity_id: str
        def __init__(self, activity_id: _Optional[str] = ...) -> None: ...
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    created: ActivityEvent.Created
    added: _activity_pb2.Activity
    removed: ActivityEvent.Removed
    def __init__(self, created: _Optional[_Union[ActivityEvent.Created, _Mapping]] = ..., added: _Optional[_Union[_activity_pb2.Activity, _Mapping]] = ..., removed: _Optional[_Union[ActivityEvent.Removed, _Mapping]] = ...) -> None: ...

class GetFeedEventsRequest(_message.Message):
    __slots__ = ("user", "viewer", "resume_token")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class GetFeedEventsResponse(_message.Message):
    __slots__ = ("events", "resume_token", "more")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    resume_token: str
    more: bool
    def __init__(self, events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ..., resume_token: _Optional[str] = ..., more: bool = ...) -> None: ...
