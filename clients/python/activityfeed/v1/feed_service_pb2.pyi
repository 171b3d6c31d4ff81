from activityfeed.v1 import feed_pb2 as _feed_pb2
from activityfeed.v1 import view_pb2 as _view_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetFeedRequest(_message.Message):
    __slots__ = ("user", "viewer", "page_size", "page_token", "resumable", "view")
    USER_FIELD_NUMBER: _ClassVar[int]
    VIEWER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUMABLE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    user: str
    viewer: str
    page_size: int
    page_token: str
    resumable: bool
    view: _view_pb2.View
    def __init__(self, user: _Optional[str] = ..., viewer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., resumable: bool = ..., view: _Optional[_Union[_view_pb2.View, _Mapping]] = ...) -> None: ...

class GetFeedResponse(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: _feed_pb2.FeedPage
    def __init__(self, page: _Optional[_Union[_feed_pb2.FeedPage, _Mapping]] = ...) -> None: ...
