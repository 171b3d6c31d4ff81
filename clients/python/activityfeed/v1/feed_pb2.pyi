from activityfeed.v1 import activity_pb2 as _activity_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PageEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAGE_END_UNSPECIFIED: _ClassVar[PageEnd]
    PAGE_END_MORE: _ClassVar[PageEnd]
    PAGE_END_FEED_END: _ClassVar[PageEnd]
    PAGE_END_RETENTION: _ClassVar[PageEnd]
    PAGE_END_NEWEST: _ClassVar[PageEnd]
PAGE_END_UNSPECIFIED: PageEnd
PAGE_END_MORE: PageEnd
PAGE_END_FEED_END: PageEnd
PAGE_END_RETENTION: PageEnd
PAGE_END_NEWEST: PageEnd

class FeedItem(_message.Message):
    __slots__ = ("item_id", "sort_key", "via", "activity")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SORT_KEY_FIELD_NUMBER: _ClassVar[int]
    VIA_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    sort_key: bytes
    via: _containers.RepeatedScalarFieldContainer[str]
    activity: _activity_pb2.ViewedActivity
    def __init__(self, item_id: _Optional[str] = ..., sort_key: _Optional[bytes] = ..., via: _Optional[_Iterable[str]] = ..., activity: _Optional[_Union[_activity_pb2.ViewedActivity, _Mapping]] = ...) -> None: ...

class FeedPage(_message.Message):
    __slots__ = ("items", "next_page_token", "newer_page_token", "resume_token", "end", "incomplete_below")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEWER_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_BELOW_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[FeedItem]
    next_page_token: str
    newer_page_token: str
    resume_token: str
    end: PageEnd
    incomplete_below: str
    def __init__(self, items: _Optional[_Iterable[_Union[FeedItem, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., newer_page_token: _Optional[str] = ..., resume_token: _Optional[str] = ..., end: _Optional[_Union[PageEnd, str]] = ..., incomplete_below: _Optional[str] = ...) -> None: ...
