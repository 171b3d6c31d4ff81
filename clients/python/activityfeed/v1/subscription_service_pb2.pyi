from activityfeed.v1 import activity_pb2 as _activity_pb2
from activityfeed.v1 import feed_pb2 as _feed_pb2
from activityfeed.v1 import view_pb2 as _view_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscriptionStart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUBSCRIPTION_START_UNSPECIFIED: _ClassVar[SubscriptionStart]
    SUBSCRIPTION_START_NEW: _ClassVar[SubscriptionStart]
    SUBSCRIPTION_START_RESUMED: _ClassVar[SubscriptionStart]
    SUBSCRIPTION_START_RESET: _ClassVar[SubscriptionStart]

class RemovalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REMOVAL_REASON_UNSPECIFIED: _ClassVar[RemovalReason]
    REMOVAL_REASON_DELETED: _ClassVar[RemovalReason]
    REMOVAL_REASON_NOT_IN_FEED: _ClassVar[RemovalReason]
    REMOVAL_REASON_EXPIRED: _ClassVar[RemovalReason]
SUBSCRIPTION_START_UNSPECIFIED: SubscriptionStart
SUBSCRIPTION_START_NEW: SubscriptionStart
SUBSCRIPTION_START_RESUMED: SubscriptionStart
SUBSCRIPTION_START_RESET: SubscriptionStart
REMOVAL_REASON_UNSPECIFIED: RemovalReason
REMOVAL_REASON_DELETED: RemovalReason
REMOVAL_REASON_NOT_IN_FEED: RemovalReason
REMOVAL_REASON_EXPIRED: RemovalReason

class SubscribeFeedRequest(_message.Message):
    __slots__ = ("user", "viewer", "resume_token", "initial_page_size", "view")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INITIAL_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    initial_page_size: int
    view: _view_pb2.View
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., initial_page_size: _Optional[int] = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class FeedSubscriptionStarted(_message.Message):
    __slots__ = ("start", "page")
    START_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    start: SubscriptionStart
    page: _feed_pb2.FeedPage
    def __init__(self, start: _Optional[_Union[SubscriptionStart, str]] = ..., page: _Optional[_Union[_feed_pb2.FeedPage, _Mapping]] = ...) -> None: ...

class ActivitySubscriptionStarted(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: SubscriptionStart
    def __init__(self, start: _Optional[_Union[SubscriptionStart, str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FeedEvents(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ...) -> None: ...

class SubscribeFeedResponse(_message.Message):
    __slots__ = ("resume_token", "started", "events", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    started: FeedSubscriptionStarted
    events: FeedEvents
    heartbeat: Heartbeat
    def __init__(self, resume_token: _Optional[str] = ..., started: _Optional[_Union[FeedSubscriptionStarted, _Mapping]] = ..., events: _Optional[_Union[FeedEvents, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class SubscribeFeedsRequest(_message.Message):
    __slots__ = ("add", "remove")
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    add: AddFeedSubscription
    remove: RemoveFeedSubscription
    def __init__(self, add: _Optional[_Union[AddFeedSubscription, _Mapping]] = ..., remove: _Optional[_Union[RemoveFeedSubscription, _Mapping]] = ...) -> None: ...

class AddFeedSubscription(_message.Message):
    __slots__ = ("subscription_id", "user", "viewer", "resume_token", "initial_page_size", "view")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INITIAL_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    user: str
    viewer: str
    resume_token: str
    initial_page_size: int
    view: _view_pb2.View
    def __init__(self, subscription_id: _Optional[str] = ..., user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., initial_page_size: _Optional[int] = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class RemoveFeedSubscription(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    def __init__(self, subscription_id: _Optional[str] = ...) -> None: ...

class FeedSubscriptionRemoved(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SubscribeFeedsResponse(_message.Message):
    __slots__ = ("subscription_id", "resume_token", "started", "events", "heartbeat", "error", "removed")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    resume_token: str
    started: FeedSubscriptionStarted
    events: FeedEvents
    heartbeat: Heartbeat
    error: _status_pb2.Status
    removed: FeedSubscriptionRemoved
    def __init__(self, subscription_id: _Optional[str] = ..., resume_token: _Optional[str] = ..., started: _Optional[_Union[FeedSubscriptionStarted, _Mapping]] = ..., events: _Optional[_Union[FeedEvents, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., removed: _Optional[_Union[FeedSubscriptionRemoved, _Mapping]] = ...) -> None: ...

class FeedItemRemoved(_message.Message):
    __slots__ = ("item_id", "reason")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    reason: RemovalReason
    def __init__(self, item_id: _Optional[str] = ..., reason: _Optional[_Union[RemovalReason, str]] = ...) -> None: ...

class FeedSourceChanged(_message.Message):
    __slots__ = ("entity", "following")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    entity: str
    following: bool
    def __init__(self, entity: _Optional[str] = ..., following: bool = ...) -> None: ...

class FeedEvent(_message.Message):
    __slots__ = ("event_time", "added", "removed", "source_changed")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    added: _feed_pb2.FeedItem
    removed: FeedItemRemoved
    source_changed: FeedSourceChanged
    def __init__(self, event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., added: _Optional[_Union[_feed_pb2.FeedItem, _Mapping]] = ..., removed: _Optional[_Union[FeedItemRemoved, _Mapping]] = ..., source_changed: _Optional[_Union[FeedSourceChanged, _Mapping]] = ...) -> None: ...

class SubscribeActivitiesRequest(_message.Message):
    __slots__ = ("entity", "viewer", "resume_token", "view")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    resume_token: str
    view: _view_pb2.View
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class SubscribeActivitiesResponse(_message.Message):
    __slots__ = ("resume_token", "started", "events", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    started: ActivitySubscriptionStarted
    events: ActivityEvents
    heartbeat: Heartbeat
    def __init__(self, resume_token: _Optional[str] = ..., started: _Optional[_Union[ActivitySubscriptionStarted, _Mapping]] = ..., events: _Optional[_Union[ActivityEvents, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class SubscribeAllRequest(_message.Message):
    __slots__ = ("resume_token", "view")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    view: _view_pb2.View
    def __init__(self, resume_token: _Optional[str] = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class SubscribeAllResponse(_message.Message):
    __slots__ = ("resume_token", "started", "events", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    started: ActivitySubscriptionStarted
    events: ActivityEvents
    heartbeat: Heartbeat
    def __init__(self, resume_token: _Optional[str] = ..., started: _Optional[_Union[ActivitySubscriptionStarted, _Mapping]] = ..., events: _Optional[_Union[ActivityEvents, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class ActivityEvents(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ActivityEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[ActivityEvent, _Mapping]]] = ...) -> None: ...

class ActivityRemoved(_message.Message):
    __slots__ = ("activity_id", "actor", "external_id", "reason")
    ACTIVITY_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    activity_id: str
    actor: str
    external_id: str
    reason: RemovalReason
    def __init__(self, activity_id: _Optional[str] = ..., actor: _Optional[str] = ..., external_id: _Optional[str] = ..., reason: _Optional[_Union[RemovalReason, str]] = ...) -> None: ...

class ActivityEvent(_message.Message):
    __slots__ = ("event_time", "added", "removed")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    added: _activity_pb2.ViewedActivity
    removed: ActivityRemoved
    def __init__(self, event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., added: _Optional[_Union[_activity_pb2.ViewedActivity, _Mapping]] = ..., removed: _Optional[_Union[ActivityRemoved, _Mapping]] = ...) -> None: ...

class GetFeedEventsRequest(_message.Message):
    __slots__ = ("user", "viewer", "resume_token", "view")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    resume_token: str
    view: _view_pb2.View
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., resume_token: _Optional[str] = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class GetFeedEventsResponse(_message.Message):
    __slots__ = ("resume_token", "events", "more")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    events: _containers.RepeatedCompositeFieldContainer[FeedEvent]
    more: bool
    def __init__(self, resume_token: _Optional[str] = ..., events: _Optional[_Iterable[_Union[FeedEvent, _Mapping]]] = ..., more: bool = ...) -> None: ...
