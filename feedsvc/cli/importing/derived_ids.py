"""External ids for rows that have none, so that importing a file twice changes nothing."""

from collections import Counter
from hashlib import blake2b


class DerivedIds:
    """External ids of the rows of one file: a hash of the row, and how often the row came before.

    Identical rows of one file are different activities: the second row has the id of the first with
    ``-1`` after it. So a file gives the same ids at every import, even when rows were added at its
    end. The same row in two files is one activity.

    The ids of a file take 32 MiB, however long the file is. Two bits of a table say whether a row
    may have come before, and only such rows are counted exactly. If other rows have set both bits,
    the id of a first row has a number after it too, but it is the same id at every import.
    """

    _INDEX_BITS = 28

    def __init__(self) -> None:
        self._seen = bytearray(1 << (self._INDEX_BITS - 3))
        self._repeats: Counter[bytes] = Counter()

    def next(self, row: bytes) -> str:
        """Return the id of the next row of the file."""
        digest = blake2b(row, digest_size=16).digest()
        if not self._may_have_come_before(digest):
            return digest.hex()
        self._repeats[digest] += 1
        return f"{digest.hex()}-{self._repeats[digest]}"

    def _may_have_come_before(self, digest: bytes) -> bool:
        seen = True
        for start in (0, 4):
            index = int.from_bytes(digest[start : start + 4]) >> (32 - self._INDEX_BITS)
            byte, bit = index >> 3, 1 << (index & 7)
            seen = seen and bool(self._seen[byte] & bit)
            self._seen[byte] |= bit
        return seen
