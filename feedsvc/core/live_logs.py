"""Live logs: the events of a feed or an outbox, in order.

Each feed and each outbox that a stream follows has a log. Each shard also has a log of all
activities that are published there. The log is the truth; wake-ups (``wakeups.py``) only say that a
log has grown.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from feedsvc.core import keys
from feedsvc.core.activities import read_frames
from feedsvc.core.store import Arg, Store
from feedsvc.errors import StoreUnavailable

#: Most entries that one read of a log returns.
ENTRIES_A_READ = 100
#: Most entries that all reads of one call return.
ENTRIES_A_CALL = 400
#: Most logs that one call reads, and most activities whose frames one command reads.
LOGS_A_CALL, FRAMES_A_CALL = 32, 128
#: Approximate bytes of frames that one round of reads returns; entries that still lack their frame
#: wait for the next round.
BYTES_A_ROUND = 8_388_608
#: Bytes of frames that one call returns beside the logs; calls of their own read further frames.
BYTES_A_CALL = 262_144

Kind = Literal["created", "added", "removed", "followed", "unfollowed"]

_KINDS: dict[bytes, Kind] = {
    b"c": "created",
    b"a": "added",
    b"r": "removed",
    b"f": "followed",
    b"u": "unfollowed",
}


class LogLost(Exception):
    """The log does not hold the entry to continue after: events are missing."""


class Log(NamedTuple):
    """The name of a log, and its shard."""

    shard: int
    name: str


class Entry(NamedTuple):
    """An event of a live log."""

    position: str
    """Its id in the log: ``<n>-<nonce>``."""
    kind: Kind
    subject: str
    """The activity's id, or the entity that was followed or unfollowed."""
    route: str = ""
    """The entity whose outbox brought an added activity, if the user still follows the entity."""
    frame: bytes | None = None
    """The frame of an added activity; None if the activity is deleted."""


ReadResult = list[Entry] | Exception
"""The entries of a log beyond a position, or the error of the read."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The part of a call's answer that is about one log."""

    fields: Any
    """The flat list of ``live_read.lua``, its refusal, or the error of the call."""
    frames: dict[int, bytes | None]
    """The frames of activities that were added to the logs of the call, read in the same moment."""

    def added_ids(self) -> set[int]:
        """Return the ids of the activities that were added."""
        if not isinstance(self.fields, list):
            return set()
        kinds_and_subjects = zip(self.fields[1::4], self.fields[2::4], strict=True)
        return {int(subject) for kind, subject in kinds_and_subjects if kind == b"a"}

    def entries(self, more_frames: dict[int, bytes | None]) -> tuple[ReadResult, bool]:
        """Return the entries before the first that lacks its frame, and whether more may follow.

        ``more_frames`` are the frames that calls of their own have read.
        """
        if isinstance(self.fields, Exception):
            return self.fields, False
        if not isinstance(self.fields, list):
            return LogLost(), False
        entries: list[Entry] = []
        columns = (self.fields[column::4] for column in range(4))
        for position, kind, subject, route in zip(*columns, strict=True):
            frame = None
            if kind == b"a":
                activity_id = int(subject)
                frames = self.frames if activity_id in self.frames else more_frames
                if activity_id not in frames:
                    return entries, True
                frame = frames[activity_id]
            entries.append(
                Entry(position.decode(), _KINDS[kind], subject.decode(), route.decode(), frame)
            )
        return entries, len(entries) == ENTRIES_A_READ


class LiveLogs:
    """The live logs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_feed(self, user: str) -> Log:
        """Return the log of a user's feed."""
        return Log(self._store.shard_for(user), user)

    def of_outbox(self, entity: str) -> Log:
        """Return the log of an entity's outbox."""
        return Log(self._store.shard_for(entity), keys.OUTBOX_LOG + entity)

    def of_all(self) -> list[Log]:
        """Return the logs of all published activities, one log for each shard."""
        return [Log(shard, keys.ALL_LOG) for shard in range(self._store.limits.shards)]

    async def open(self, log: Log) -> str:
        """Open a log, or renew its lease; return the position at its end."""
        position: bytes = await self._store.script("live_open", log.shard, log.name)
        return position.decode()

    async def read(self, log: Log, position: str) -> tuple[list[Entry], bool]:
        """Return the entries beyond a position, oldest first, and whether more may follow.

        Raise LogLost if the log does not reach back to the position.
        """
        ((entries, has_more),) = await self.read_many([(log, position)])
        if isinstance(entries, Exception):
            raise entries
        return entries, has_more

    async def read_many(self, wanted: Sequence[tuple[Log, str]]) -> list[tuple[ReadResult, bool]]:
        """Return the entries beyond each log's position, and whether more may follow.

        In place of the entries stands the error of a read that failed, for example LogLost.
        """
        answers = [_Answer(b"later", {})] * len(wanted)
        while unread := [
            index for index, answer in enumerate(answers) if answer.fields == b"later"
        ]:
            logs_a_call = 1 if self._store.cluster else LOGS_A_CALL
            calls = [
                unread[first : first + logs_a_call] for first in range(0, len(unread), logs_a_call)
            ]
            answered = await asyncio.gather(
                *(self._call([wanted[index] for index in indexes]) for indexes in calls)
            )
            for indexes, call_answers in zip(calls, answered, strict=True):
                for index, answer in zip(indexes, call_answers, strict=True):
                    answers[index] = answer
        missing = {
            activity_id: None
            for answer in answers
            for activity_id in answer.added_ids() - answer.frames.keys()
        }
        more_frames = await self._frames_of(list(missing))
        return [answer.entries(more_frames) for answer in answers]

    async def _call(self, wanted: Sequence[tuple[Log, str]]) -> list[_Answer]:
        """Read logs by one call. The answer of a log that cannot be read is its error."""
        arguments: list[Arg] = [ENTRIES_A_READ, ENTRIES_A_CALL, BYTES_A_CALL]
        for log, position in wanted:
            arguments += (log.name, position)
        try:
            shards = [log.shard for log, _ in wanted]
            *lists, flat_frames = await self._store.script("live_read", shards, *arguments)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (it ends the streams that follow the log)
            if len(wanted) == 1:
                return [_Answer(error, {})]
            return [answer for log in wanted for answer in await self._call([log])]
        frames = {
            int(activity_id): frame or None
            for activity_id, frame in zip(flat_frames[::2], flat_frames[1::2], strict=True)
        }
        return [_Answer(fields, frames) for fields in lists]

    async def _frames_of(self, activity_ids: Sequence[int]) -> dict[int, bytes | None]:
        """Read the frames of activities, and stop early when they have too many bytes."""
        frames: dict[int, bytes | None] = {}
        size = 0
        for first in range(0, len(activity_ids), FRAMES_A_CALL):
            part = activity_ids[first : first + FRAMES_A_CALL]
            part_frames = await read_frames(self._store, part)
            frames |= zip(part, part_frames, strict=True)
            size += sum(map(len, filter(None, part_frames)))
            if size >= BYTES_A_ROUND:
                break
        return frames
