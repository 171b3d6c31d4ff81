from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class View(_message.Message):
    __slots__ = ("flat",)
    FLAT_FIELD_NUMBER: _ClassVar[int]
    flat: FlatView
    def __init__(self, flat: _Optional[_Union[FlatView, _Mapping]] = ...) -> None: ...

class FlatView(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
