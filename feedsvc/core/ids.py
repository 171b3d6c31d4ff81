"""Activity ids: 64 bits that are identity, sort key and address in one.

``unix_ms << 21 | sequence << 8 | shard``: 13 bits of sequence tell the activities of one
millisecond and shard apart, the low byte is the shard in which the body lives. From 1985-02-09 to
2109 ids have 19 decimal digits, so that their strings compare as the numbers do; earlier times are
refused.
"""

from hashlib import blake2b

SEQUENCES = 1 << 13
FIRST_MS = -(-(10**18) // (1 << 21))
LAST_MS = (1 << 42) - 1
DIGITS = 19
STEP = 1 << 8
"""Distance of two consecutive ids of a shard; a full sequence carries into the millisecond."""


def make(ms: int, sequence: int, shard: int) -> int:
    """Return the id of a Unix time in milliseconds, a sequence and a shard."""
    return ms << 21 | sequence << 8 | shard


def parse(text: str) -> int | None:
    """Return the id that ``text`` stands for, or None if it cannot be an id."""
    if len(text) != DIGITS or not text.isascii() or not text.isdigit():
        return None
    number = int(text)
    return number if number < 1 << 63 else None


def ms_of(activity_id: int) -> int:
    """Return the Unix time of an id, in milliseconds."""
    return activity_id >> 21


def shard_of(activity_id: int) -> int:
    """Return the shard in which an activity's body lives."""
    return activity_id & 0xFF


def sequence_for(actor: str, unique: str) -> int:
    """Return the first sequence to try for an activity, from what is unique about it."""
    digest = blake2b(f"{actor}\0{unique}".encode(), digest_size=2).digest()
    return int.from_bytes(digest) % SEQUENCES


def shard_for(entity: str, shards: int) -> int:
    """Return the shard in which an entity's keys live."""
    return blake2b(entity.encode(), digest_size=1).digest()[0] % shards
