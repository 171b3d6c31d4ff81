"""Batches: requests that hold many entries, decoded entry by entry.

To decode a message of 4 MB takes the process a tenth of a second, in which it serves nobody, and
many times that memory. So a batch is only cut into its entries, which takes milliseconds; each is
decoded when its turn comes, and the process does something else between any two.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from activityfeed.v1.activity_service_pb2 import PublishActivityRequest
from activityfeed.v1.follow_service_pb2 import FollowRequest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

T = TypeVar("T", bound=Message)

#: The entries' type in each kind of batch, by the RPC's name.
ENTRIES: dict[str, type[Message]] = {
    "BatchPublishActivities": PublishActivityRequest,
    "BatchFollow": FollowRequest,
}


def _uncut() -> Any:
    """The type of a batch and of its answer in which entries are bytes; on the wire it is the same.

    In all of them the entries are field 1, which the contract's tests know.
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


_Entries = _uncut()


class Batch(Generic[T]):
    """A request with many entries, each still as it came."""

    def __init__(self, entry: type[T], raw: bytes) -> None:
        """Cut a batch into entries. Raises DecodeError if it is none."""
        self.entry = entry
        self.size = len(raw)
        self.entries: Sequence[bytes] = _Entries.FromString(raw).entries


def joined(entries: Sequence[bytes]) -> bytes:
    """The answer to a batch, serialised, from its serialised entries."""
    answer: bytes = _Entries(entries=entries).SerializeToString()
    return answer


#: Seconds of work on entries in one turn of the event loop; the last entry may exceed them.
SLICE_SECONDS = 0.0005


class Slices:
    """Turns at work that keeps the process from everything else: a little in a turn of the loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._began = 0.0

    async def turn(self) -> None:
        """Wait until it is the caller's turn; the work is to follow without waiting."""
        async with self._lock:
            if time.monotonic() - self._began > SLICE_SECONDS:
                await asyncio.sleep(0)
                self._began = time.monotonic()


async def in_turns(work: Callable[[], Coroutine[Any, Any, None]], at_once: int) -> None:
    """Run the same work several times at once; if one is cancelled or fails, so are the others."""
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
