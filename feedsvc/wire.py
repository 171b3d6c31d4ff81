"""Activities in the wire's format: how they are stored, and answers made of what is stored.

The fields of a serialised message may come in any order, and a field that is appended counts as if
it had always been there. So an answer is the stored bytes with the id behind them: nothing is
parsed.

An activity is stored in a frame:

======  ========================================================================
bytes   what
======  ========================================================================
1       version of the layout: 1
1       flags: ``HAS_TIME``, ``HAS_TO``
1       length of the header, all of this; the body begins there
2       where in the body the field ``actor`` begins; only ``external_id`` may be before it
2       where the field ``actor`` ends
any     more, in later versions
rest    the body: the activity as it was sent, without its id, defaults in
======  ========================================================================

Numbers are big-endian. Scripts read the header too (``core/lua/lib/outbox.lua``).
"""

from functools import lru_cache
from struct import Struct

from activityfeed.v1.activity_pb2 import Activity

from feedsvc.core import ids

VERSION = 1
HAS_TIME = 1
"""It was sent with a ``publish_time``; otherwise its id says when it was published."""
HAS_TO = 2
"""It is published ``to`` others."""

_HEADER = Struct(">BBBHH")
#: What the field ``id`` takes: a tag, a length and 19 digits.
_ID_BYTES = 21
#: Tags of fields of variable length: the number times eight, plus two.
FIRST, SECOND, THIRD = b"\x0a", b"\x12", b"\x1a"


def varint(number: int) -> bytes:
    """A number that is not negative, or a length."""
    if number < len(_VARINTS):
        return _VARINTS[number]
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)


#: The small ones, which most lengths are.
_VARINTS: list[bytes] = []
_VARINTS += [bytes((number,)) for number in range(0x80)]
_VARINTS += [varint(number) for number in range(0x80, 0x800)]


def field(tag: bytes, value: bytes) -> bytes:
    """A field of variable length: a text, or a message within another."""
    return b"%b%b%b" % (tag, varint(len(value)), value)


def frame(activity: Activity) -> bytes:
    """What is stored of an activity, which is without its id.

    The same activity always gives the same bytes, so they also tell one activity from another.
    """
    body = activity.SerializeToString(deterministic=True)
    external = field(SECOND, activity.external_id.encode()) if activity.external_id else b""
    actor = field(THIRD, activity.actor.encode())
    if not body.startswith(external + actor):
        raise RuntimeError("the protobuf runtime does not serialise fields in order")
    flags = HAS_TIME * activity.HasField("publish_time") + HAS_TO * bool(activity.to)
    end = len(external) + len(actor)
    return _HEADER.pack(VERSION, flags, _HEADER.size, len(external), end) + body


def body(frame: bytes) -> bytes:
    """The activity in a frame, as it was sent: without its id."""
    return frame[_checked(frame)[2] :]


def actor(frame: bytes) -> str:
    """Whose activity is in a frame."""
    _, _, header, begin, end = _checked(frame)
    length = 2 if end - begin < 2 + 0x80 else 3
    return frame[header + begin + length : header + end].decode()


def has_to(frame: bytes) -> bool:
    """Whether more outboxes than its actor's, or others, hold the activity in a frame."""
    return bool(frame[1] & HAS_TO)


def activity(activity_id: int, frame: bytes) -> bytes:
    """The stored activity with its id, and with the time of the id if it was sent without one."""
    return b"%b\n\x13%d%b" % (body(frame), activity_id, _time(activity_id, frame))


def feed_item(activity_id: int, frame: bytes) -> bytes:
    """The field ``items`` (1) of a page, of an activity that its actor's outbox alone brought.

    Twenty make a page, so it is one step: the lengths first, then the bytes.
    """
    _, _, header, begin, end = _checked(frame)
    # ``via`` has the number that ``actor`` has in an activity, and so the same bytes.
    via = frame[header + begin : header + end]
    time = _time(activity_id, frame)
    length = len(frame) - header + _ID_BYTES + len(time)
    inner = varint(length)
    outer = varint(1 + len(inner) + length + len(via))
    return b"\n%b\n%b%b\n\x13%d%b%b" % (outer, inner, frame[header:], activity_id, time, via)


def feed_item_via(activity_id: int, frame: bytes, via: list[str]) -> bytes:
    """The same, of an activity that several outboxes may have brought."""
    routes = b"".join(field(THIRD, one.encode()) for one in via)
    return field(FIRST, field(FIRST, activity(activity_id, frame)) + routes)


def _checked(frame: bytes) -> tuple[int, ...]:
    """The header of a frame."""
    header = _HEADER.unpack_from(frame)
    if header[0] != VERSION:
        raise ValueError("this is no frame of an activity")
    return header


def _time(activity_id: int, frame: bytes) -> bytes:
    """The field ``publish_time`` (13) that the activity was sent without."""
    if frame[1] & HAS_TIME:
        return b""
    ms = ids.ms_of(activity_id)
    before, after = _AROUNDSECONDS[ms % 1_000]
    return before + _seconds(ms // 1_000) + after


@lru_cache(maxsize=4_096)
def _seconds(seconds: int) -> bytes:
    return varint(seconds)


def _around_seconds(ms: int) -> tuple[bytes, bytes]:
    """What stands around the seconds in a time with these milliseconds.

    The seconds take five bytes from 1978 to 3058.
    """
    nanos = b"\x10" + varint(ms * 1_000_000) if ms else b""
    return b"\x6a" + varint(1 + 5 + len(nanos)) + b"\x08", nanos


_AROUNDSECONDS = [_around_seconds(ms) for ms in range(1_000)]
