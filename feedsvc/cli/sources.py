"""The files of an import: plain or gzip, standard input, read line by line and more than once."""

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


class Damaged(Exception):
    """A file cannot be read to its end; the message says why. Expected: it is reported."""


class Source:
    """A file to import. ``-`` is standard input.

    What cannot be read twice, a pipe for example, is copied to a temporary file first.
    """

    def __init__(self, path: str, resources: ExitStack) -> None:
        """Opens the file until ``resources`` is closed. Raises OSError."""
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
        """Bytes, as they are in the file."""

    @property
    def position(self) -> int:
        """How many of the file's bytes have been read."""
        return self._raw.tell()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line's number, from 1, and its content without the line's end. Raises Damaged."""
        self._raw.seek(0)
        packed = self._raw.read(2) == GZIP_MAGIC
        self._raw.seek(0)
        number = 0
        try:
            for number, line in enumerate(self._unpacked() if packed else self._raw, 1):
                yield number, line.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise Damaged(f"cannot be read after line {number}: {error}") from None

    def _unpacked(self) -> IO[bytes]:
        return io.BufferedReader(gzip.GzipFile(fileobj=self._raw, mode="rb"), 1 << 17)
