"""External ids for rows that have none, so that importing a file twice changes nothing."""

from collections import Counter
from hashlib import blake2b


class DerivedIds:
    """The external ids of one file's rows: a hash of the whole row, and how often it stood before.

    Identical rows of one file are different activities: the second has the id of the first with
    ``-1`` after it. So the same file gives the same ids at every import, also when rows were added
    at its end. The same row in two files is one activity.

    Takes 32 MiB, however long the file is: two bits of a table say whether a row can have stood
    before, and only rows of which they say so are counted exactly. Where the bits are wrong, a
    single row has a number after its id, the same at every import.
    """

    _BITS = 28

    def __init__(self) -> None:
        self._seen = bytearray(1 << (self._BITS - 3))
        self._repeated: Counter[bytes] = Counter()

    def next(self, row: bytes) -> str:
        """The id of the next row of the file."""
        digest = blake2b(row, digest_size=16).digest()
        if not self._stood_before(digest):
            return digest.hex()
        self._repeated[digest] += 1
        return f"{digest.hex()}-{self._repeated[digest]}"

    def _stood_before(self, digest: bytes) -> bool:
        before = True
        for start in (0, 4):
            place = int.from_bytes(digest[start : start + 4]) >> (32 - self._BITS)
            byte, bit = place >> 3, 1 << (place & 7)
            before = before and bool(self._seen[byte] & bit)
            self._seen[byte] |= bit
        return before
