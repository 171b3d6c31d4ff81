"""Batch requests: requests that hold many entries, decoded entry by entry.

Decoding a message of 4 MB takes a tenth of a second, in which the process serves no other call, and
many times the message's memory. Cutting the message into its entries takes milliseconds. So the
server cuts a batch first and decodes each entry when the entry's turn comes. The process does other
work between any two entries.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

T = TypeVar("T", bound=Message)

#: The type of the entries of each batch request, by the name of the RPC.
ENTRY_TYPES: dict[str, type[Message]] = {
    "BatchPublishActivities": PublishActivityRequest,
    "BatchFollow": FollowRequest,
}

#: Seconds of work on entries in one turn of the event loop; the last entry may exceed them.
SLICE_SECONDS = 0.0005


def _undecoded_entries_type() -> Any:
    """Return a message type that reads the entries of any batch, or of its response, as bytes.

    A message and bytes look the same on the wire. Every batch has its entries in field 1, which the
    tests of the contract check.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="feedsvc/batches.proto",
        package="feedsvc",
        syntax="proto3",
        message_type=[
            descriptor_pb2.DescriptorProto(
                name="Entries",
                field=[
                    field(
                        name="entries",
                        number=1,
                        label=field.LABEL_REPEATED,
                        type=field.TYPE_BYTES,
                    ),
                ],
            )
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("feedsvc.Entries"))


_Entries = _undecoded_entries_type()


class Batch(Generic[T]):
    """A batch request whose entries are not decoded yet."""

    def __init__(self, entry: type[T], raw: bytes) -> None:
        """Cut ``raw`` into entries of the type ``entry``. Raise DecodeError for malformed bytes."""
        self.entry = entry
        self.size = len(raw)
        self.entries: Sequence[bytes] = _Entries.FromString(raw).entries


def join_results(results: Sequence[bytes]) -> bytes:
    """Return the serialised response to a batch, made of its serialised results."""
    response: bytes = _Entries(entries=results).SerializeToString()
    return response


class Slices:
    """Turns at work on entries. Other calls of the process go on after each short slice of work."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._slice_start = 0.0

    async def turn(self) -> None:
        """Wait for the caller's turn. The caller then does its work without waiting."""
        async with self._lock:
            if time.monotonic() - self._slice_start > SLICE_SECONDS:
                await asyncio.sleep(0)
                self._slice_start = time.monotonic()
