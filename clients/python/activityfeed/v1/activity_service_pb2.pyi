from activityfeed.v1 import activity_pb2 as _activity_pb2
from activityfeed.v1 import feed_pb2 as _feed_pb2
from activityfeed.v1 import view_pb2 as _view_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeliveryState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_STATE_UNSPECIFIED: _ClassVar[DeliveryState]
    DELIVERY_STATE_DELIVERED: _ClassVar[DeliveryState]
    DELIVERY_STATE_QUEUED: _ClassVar[DeliveryState]
    DELIVERY_STATE_PULLED: _ClassVar[DeliveryState]
    DELIVERY_STATE_FAILED: _ClassVar[DeliveryState]
DELIVERY_STATE_UNSPECIFIED: DeliveryState
DELIVERY_STATE_DELIVERED: DeliveryState
DELIVERY_STATE_QUEUED: DeliveryState
DELIVERY_STATE_PULLED: DeliveryState
DELIVERY_STATE_FAILED: DeliveryState

class PublishActivityRequest(_message.Message):
    __slots__ = ("activity", "request_id", "wait_for_delivery")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_DELIVERY_FIELD_NUMBER: _ClassVar[int]
    activity: _activity_pb2.Activity
    request_id: str
    wait_for_delivery: bool
    def __init__(self, activity: _Optional[_Union[_activity_pb2.Activity, _Mapping]] = ..., request_id: _Optional[str] = ..., wait_for_delivery: bool = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("state", "delivered_count", "skipped_cold_count", "audience_count")
    STATE_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_COLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    state: DeliveryState
    delivered_count: int
    skipped_cold_count: int
    audience_count: int
    def __init__(self, state: _Optional[_Union[DeliveryState, str]] = ..., delivered_count: _Optional[int] = ..., skipped_cold_count: _Optional[int] = ..., audience_count: _Optional[int] = ...) -> None: ...

class PublishActivityResponse(_message.Message):
    __slots__ = ("activity", "already_published", "delivery")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    ALREADY_PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    activity: _activity_pb2.Activity
    already_published: bool
    delivery: Delivery
    def __init__(self, activity: _Optional[_Union[_activity_pb2.Activity, _Mapping]] = ..., already_published: bool = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ...) -> None: ...

class BatchPublishActivitiesRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[PublishActivityRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[PublishActivityRequest, _Mapping]]] = ...) -> None: ...

class PublishActivityResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: PublishActivityResponse
    error: _status_pb2.Status
    def __init__(self, response: _Optional[_Union[PublishActivityResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchPublishActivitiesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PublishActivityResult]
    def __init__(self, results: _Optional[_Iterable[_Union[PublishActivityResult, _Mapping]]] = ...) -> None: ...

class GetDeliveryRequest(_message.Message):
    __slots__ = ("id", "viewer")
    ID_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    id: str
    viewer: str
    def __init__(self, id: _Optional[str] = ..., viewer: _Optional[str] = ...) -> None: ...

class GetDeliveryResponse(_message.Message):
    __slots__ = ("delivery",)
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    delivery: Delivery
    def __init__(self, delivery: _Optional[_Union[Delivery, _Mapping]] = ...) -> None: ...

class GetActivityRequest(_message.Message):
    __slots__ = ("id", "viewer")
    ID_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    id: str
    viewer: str
    def __init__(self, id: _Optional[str] = ..., viewer: _Optional[str] = ...) -> None: ...

class GetActivityResponse(_message.Message):
    __slots__ = ("activity",)
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    activity: _activity_pb2.ViewedActivity
    def __init__(self, activity: _Optional[_Union[_activity_pb2.ViewedActivity, _Mapping]] = ...) -> None: ...

class BatchGetActivitiesRequest(_message.Message):
    __slots__ = ("ids", "viewer")
    IDS_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    viewer: str
    def __init__(self, ids: _Optional[_Iterable[str]] = ..., viewer: _Optional[str] = ...) -> None: ...

class GetActivityResult(_message.Message):
    __slots__ = ("activity", "error")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    activity: _activity_pb2.ViewedActivity
    error: _status_pb2.Status
    def __init__(self, activity: _Optional[_Union[_activity_pb2.ViewedActivity, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchGetActivitiesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[GetActivityResult]
    def __init__(self, results: _Optional[_Iterable[_Union[GetActivityResult, _Mapping]]] = ...) -> None: ...

class DeleteActivityRequest(_message.Message):
    __slots__ = ("id", "actor", "request_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    actor: str
    request_id: str
    def __init__(self, id: _Optional[str] = ..., actor: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteActivityResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListActivitiesRequest(_message.Message):
    __slots__ = ("entity", "viewer", "page_size", "page_token", "own_only", "resumable", "view")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OWN_ONLY_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    page_size: int
    page_token: str
    own_only: bool
    resumable: bool
    view: _view_pb2.View
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., own_only: bool = ..., resumable: bool = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class ListActivitiesResponse(_message.Message):
    __slots__ = ("activities", "next_page_token", "newer_page_token", "end", "resume_token")
    ACTIVITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEWER_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    activities: _containers.RepeatedCompositeFieldContainer[_activity_pb2.ViewedActivity]
    next_page_token: str
    newer_page_token: str
    end: _feed_pb2.PageEnd
    resume_token: str
    def __init__(self, activities: _Optional[_Iterable[_Union[_activity_pb2.ViewedActivity, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., newer_page_token: _Optional[str] = ..., end: _Optional[_Union[_feed_pb2.PageEnd, str]] = ..., resume_token: _Optional[str] = ...) -> None: ...
