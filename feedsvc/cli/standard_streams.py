"""Standard output and standard error of commands, whose failures have errors of their own."""

import errno
import io
import os
import select
import sys
from typing import TextIO

#: The descriptors of standard input, output and error.
_DESCRIPTORS = (0, 1, 2)


class OutputFailed(Exception):
    """Standard output cannot be written. The message names the cause."""

    def __init__(self, cause: str, *, reader_left: bool = False) -> None:
        super().__init__(f"cannot write to standard output: {cause}")
        self.reader_left = reader_left
        """True if standard output is a pipe whose reader has ended, as in ``... | head -1``."""


class _Output(io.FileIO):
    """Standard output. The first failed write raises OutputFailed; the exit retries no write."""

    was_closed = False
    """True if the process was started without a standard output."""
    _failed = False

    def write(self, data: io.BytesIO | bytes, /) -> int:  # type: ignore[override]
        if self._failed:
            return memoryview(data).nbytes  # type: ignore[arg-type]
        try:
            self.check()
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self._failed = True
            raise _failure(error) from None
        except OutputFailed:
            self._failed = True
            raise

    def check(self) -> None:
        """Raise OutputFailed if it is certain that no write can succeed."""
        if self.was_closed:
            raise OutputFailed("it is closed; redirect it to a file or to /dev/null")


class _ErrorOutput(io.FileIO):
    """Standard error. It drops what cannot be written: the exit status of a command still tells."""

    def write(self, data: io.BytesIO | bytes, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def replace() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that no character and no disk break.

    A character that the terminal's encoding lacks is written as "?". A write to stdout that fails
    raises OutputFailed; a write to stderr never fails. Call this once, before any output.
    """
    closed = _open_closed_descriptors()
    stdout = _Output(1, "w", closefd=False)
    stdout.was_closed = 1 in closed
    sys.stdout = _text(stdout, sys.stdout)
    sys.stderr = _text(_ErrorOutput(2, "w", closefd=False), sys.stderr)


def check_stdout() -> None:
    """Raise OutputFailed if it is certain that no output can be written."""
    stdout: object = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(stdout, _Output):
        return
    stdout.check()
    poll = select.poll()
    poll.register(stdout, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise _failure(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))


def _failure(error: OSError) -> OutputFailed:
    return OutputFailed(error.strerror or str(error), reader_left=error.errno == errno.EPIPE)


def _open_closed_descriptors() -> set[int]:
    """Open /dev/null as each standard descriptor that is closed; return these descriptors.

    Else the next connection would get the number of standard output, and the output would go there.
    """
    closed = set()
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    return closed


def _text(raw: io.FileIO, replaced: TextIO | None) -> TextIO:
    encoding = replaced.encoding if replaced is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="replace",
        line_buffering=raw.isatty() or raw.fileno() == 2,  # noqa: PLR2004 - stderr
    )
