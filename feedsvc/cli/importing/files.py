"""Files to import: plain or gzip, or standard input, read line by line and more than once."""

import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

GZIP_MAGIC = b"\x1f\x8b"


class DamagedFile(Exception):
    """A file cannot be read to its end; the message says why. Expected: the import reports it."""


class ImportFile:
    """A file to import. The path ``-`` is standard input.

    A file that cannot be read twice, such as a pipe, is copied to a temporary file first.
    """

    def __init__(self, path: str, resources: ExitStack) -> None:
        """Open the file until ``resources`` is closed. Raise OSError if it cannot be opened."""
        self.name = "<stdin>" if path == "-" else path
        raw: IO[bytes] = sys.stdin.buffer
        if path != "-":
            raw = resources.enter_context(Path(path).open("rb"))  # noqa: SIM115
        if path == "-" or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            copy = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(raw, copy, 1 << 20)
            raw = copy
        self._raw = raw
        self.size = os.fstat(raw.fileno()).st_size
        """Bytes of the file as it is, compressed if it is a gzip file."""

    @property
    def position(self) -> int:
        """Bytes of the file that have been read."""
        return self._raw.tell()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line's number, from 1, and the line without its end.

        Raise DamagedFile if the file cannot be read to its end.
        """
        self._raw.seek(0)
        compressed = self._raw.read(2) == GZIP_MAGIC
        self._raw.seek(0)
        number = 0
        try:
            for number, line in enumerate(self._decompressed() if compressed else self._raw, 1):
                yield number, line.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedFile(f"cannot be read after line {number}: {error}") from None

    def _decompressed(self) -> IO[bytes]:
        return io.BufferedReader(gzip.GzipFile(fileobj=self._raw, mode="rb"), 1 << 17)
