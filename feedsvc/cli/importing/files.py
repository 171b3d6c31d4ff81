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
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

GZIP_MAGIC = b"\x1f\x8b"
UTF8_MARK = b"\xef\xbb\xbf"

#: Most bytes of a line. An activity has at most 32 KiB in the contract's own form; JSON with every
#: character escaped needs six times as many.
MAX_LINE_BYTES = 1 << 20

#: First bytes of files that the import cannot read, and what to do with such a file.
_FOREIGN_FILES = (
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: import the output of zstd -dc"),
    (b"\xfd7zXZ\x00", "is compressed with xz: import the output of xz -dc"),
    (b"BZh91AY&SY", "is compressed with bzip2: import the output of bzip2 -dc"),
    (b"PK\x03\x04", "is a zip file: import the output of unzip -p"),
    (b"PAR1\x15", "is a Parquet file: export it as csv or as lines of JSON"),
    (b"Obj\x01", "is an Avro file: export it as csv or as lines of JSON"),
)
_UTF16 = "is UTF-16, not UTF-8: import the output of iconv -f UTF-16 -t UTF-8"


class DamagedFile(Exception):
    """A file cannot be read to its end; the message says why. Expected: the import reports it."""


class ForeignFile(Exception):
    """A file is of a kind that cannot be imported; the message says what to do."""


class Line(NamedTuple):
    """A line of a file, or a row of several lines."""

    number: int
    """Number of the row's first line, from 1."""
    raw: bytes
    """The line with its end. Empty if the line is too long to be kept."""
    problem: str = ""
    """The reason why the line cannot be read; usually empty."""

    @property
    def content(self) -> bytes:
        """The line without its end."""
        return self.raw.rstrip(b"\r\n")


class _EagerGzipFile(gzip.GzipFile):
    """A gzip file that returns what it has before it reports damage."""

    def readinto(self, buffer: Any) -> int:
        return self.readinto1(buffer)


class ImportFile:
    """A file to import. The path ``-`` is standard input.

    A file that cannot be read twice, such as a pipe, is copied to a temporary file first.
    """

    def __init__(self, path: str, resources: ExitStack) -> None:
        """Open the file until ``resources`` is closed.

        Raise OSError if the file cannot be opened, and ForeignFile if it is no text in UTF-8.
        """
        self.name = "<stdin>" if path == "-" else path
        raw: IO[bytes] = sys.stdin.buffer
        if path != "-":
            raw = resources.enter_context(Path(path).open("rb"))  # noqa: SIM115
        if path == "-" or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            copy = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(raw, copy, 1 << 20)
            copy.flush()
            raw = copy
        self._raw = raw
        self.status = os.fstat(raw.fileno())
        """The file's status, by which two paths of one file are recognised."""
        self._refuse_foreign()

    @property
    def size(self) -> int:
        """Bytes of the file as it is, compressed if it is a gzip file."""
        return self.status.st_size

    @property
    def position(self) -> int:
        """Bytes of the file that have been read."""
        return self._raw.tell()

    def lines(self) -> Iterator[Line]:
        """Yield each line. A byte-order mark before the first line is left out.

        A line of more than MAX_LINE_BYTES is read in parts and not kept: empty lines with its
        number precede the line with the problem, so that the caller can do other work meanwhile.

        Raise DamagedFile if the file cannot be read to its end.
        """
        number = 0
        try:
            stream = self._rewound()
            for number, line in enumerate(
                iter(partial(stream.readline, MAX_LINE_BYTES + 1), b""), 1
            ):
                if len(line) > MAX_LINE_BYTES:
                    end = line
                    while end and not end.endswith(b"\n"):
                        yield Line(number, b"")
                        end = stream.readline(MAX_LINE_BYTES)
                    yield Line(number, b"", f"is longer than {MAX_LINE_BYTES:,} bytes")
                elif number == 1:
                    yield Line(number, line.removeprefix(UTF8_MARK))
                else:
                    yield Line(number, line)
        except EOFError:
            raise DamagedFile(
                f"ends early: the gzip file is cut off after line {number:,}"
            ) from None
        except (zlib.error, gzip.BadGzipFile):
            raise DamagedFile(
                f"is damaged after line {number:,}: what follows is not gzip"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise DamagedFile(f"cannot be read after line {number:,}: {reason}") from None

    def _rewound(self) -> IO[bytes]:
        """Return the text from its beginning."""
        self._raw.seek(0)
        compressed = self._raw.read(2) == GZIP_MAGIC
        self._raw.seek(0)
        if not compressed:
            return self._raw
        return io.BufferedReader(_EagerGzipFile(fileobj=self._raw, mode="rb"), 1 << 17)

    def _refuse_foreign(self) -> None:
        try:
            start = self._rewound().read(10)
        except (OSError, EOFError, zlib.error):
            return  # `lines` reports the damage
        for magic, advice in _FOREIGN_FILES:
            if start.startswith(magic):
                raise ForeignFile(advice)
        # Every second byte of western text in UTF-16 is NUL.
        if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in {start[:1], start[1:2]}:
            raise ForeignFile(_UTF16)
