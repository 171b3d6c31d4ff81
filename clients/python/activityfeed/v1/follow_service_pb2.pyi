from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FollowEdge(_message.Message):
    __slots__ = ("follower", "followee", "follow_time")
    FOLLOWER_FIELD_NUMBER: _ClassVar[int]
    FOLLOWEE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_TIME_FIELD_NUMBER: _ClassVar[int]
    follower: str
    followee: str
    follow_time: _timestamp_pb2.Timestamp
    def __init__(self, follower: _Optional[str] = ..., followee: _Optional[str] = ..., follow_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("follower", "followee", "request_id")
    FOLLOWER_FIELD_NUMBER: _ClassVar[int]
    FOLLOWEE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    follower: str
    followee: str
    request_id: str
    def __init__(self, follower: _Optional[str] = ..., followee: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("edge", "already_following")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    ALREADY_FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    edge: FollowEdge
    already_following: bool
    def __init__(self, edge: _Optional[_Union[FollowEdge, _Mapping]] = ..., already_following: bool = ...) -> None: ...

class UnfollowRequest(_message.Message):
    __slots__ = ("follower", "followee", "request_id")
    FOLLOWER_FIELD_NUMBER: _ClassVar[int]
    FOLLOWEE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    follower: str
    followee: str
    request_id: str
    def __init__(self, follower: _Optional[str] = ..., followee: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UnfollowResponse(_message.Message):
    __slots__ = ("was_following",)
    WAS_FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    was_following: bool
    def __init__(self, was_following: bool = ...) -> None: ...

class BatchFollowRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[FollowRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[FollowRequest, _Mapping]]] = ...) -> None: ...

class FollowResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: FollowResponse
    error: _status_pb2.Status
    def __init__(self, response: _Optional[_Union[FollowResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchFollowResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FollowResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FollowResult, _Mapping]]] = ...) -> None: ...

class ListFollowersRequest(_message.Message):
    __slots__ = ("entity", "viewer", "page_size", "page_token")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    page_size: int
    page_token: str
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFollowersResponse(_message.Message):
    __slots__ = ("edges", "next_page_token")
    EDGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedCompositeFieldContainer[FollowEdge]
    next_page_token: str
    def __init__(self, edges: _Optional[_Iterable[_Union[FollowEdge, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListFollowingRequest(_message.Message):
    __slots__ = ("entity", "viewer", "page_size", "page_token")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    page_size: int
    page_token: str
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFollowingResponse(_message.Message):
    __slots__ = ("edges", "next_page_token")
    EDGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedCompositeFieldContainer[FollowEdge]
    next_page_token: str
    def __init__(self, edges: _Optional[_Iterable[_Union[FollowEdge, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class BatchGetRelationshipsRequest(_message.Message):
    __slots__ = ("entity", "others", "viewer")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    entity: str
    others: _containers.RepeatedScalarFieldContainer[str]
    viewer: str
    def __init__(self, entity: _Optional[str] = ..., others: _Optional[_Iterable[str]] = ..., viewer: _Optional[str] = ...) -> None: ...

class Relationship(_message.Message):
    __slots__ = ("other", "following", "followed_by")
    OTHER_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    other: str
    following: bool
    followed_by: bool
    def __init__(self, other: _Optional[str] = ..., following: bool = ..., followed_by: bool = ...) -> None: ...

class BatchGetRelationshipsResponse(_message.Message):
    __slots__ = ("relationships",)
    RELATIONSHIPS_FIELD_NUMBER: _ClassVar[int]
    relationships: _containers.RepeatedCompositeFieldContainer[Relationship]
    def __init__(self, relationships: _Optional[_Iterable[_Union[Relationship, _Mapping]]] = ...) -> None: ...

class GetFollowCountsRequest(_message.Message):
    __slots__ = ("entity", "viewer")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    entity: str
    viewer: str
    def __init__(self, entity: _Optional[str] = ..., viewer: _Optional[str] = ...) -> None: ...

class GetFollowCountsResponse(_message.Message):
    __slots__ = ("follower_count", "following_count")
    FOLLOWER_COUNT_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_COUNT_FIELD_NUMBER: _ClassVar[int]
    follower_count: int
    following_count: int
    def __init__(self, follower_count: _Optional[int] = ..., following_count: _Optional[int] = ...) -> None: ...
