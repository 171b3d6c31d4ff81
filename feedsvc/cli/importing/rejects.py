"""The rows that an import does not take, and the file that they are written to."""

from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from feedsvc.cli.importing.files import Line
from feedsvc.cli.rendering import plain


class Reject(NamedTuple):
    """A row that the import does not take."""

    file: str
    line: int
    """Number of the row's first line."""
    rule: str
    """The rule that the row breaks, in words."""


class RejectsUnwritable(Exception):
    """The rejects cannot be written; the message says why."""


class RejectsFile:
    """A file of rejected rows as they stand in their files, and a file of the reasons beside it.

    The first file has the header line of the imported files before its first row, so that it can
    be imported in the same way once its rows are corrected. The second file is tsv: ``row`` is the
    number of a line of the first file, or empty if the line was too long to be kept.
    """

    def __init__(self, path: Path, header: bytes, resources: ExitStack) -> None:
        """Begin both files anew. Raise RejectsUnwritable if that is not possible.

        ``header`` is the header line of the imported files; it may be empty.
        """
        self.path, self.reasons_path = self.paths(path)
        self._header = header
        self._next_row = 1
        try:
            self._rows = resources.enter_context(path.open("wb", buffering=0))
            self._reasons = resources.enter_context(self.reasons_path.open("wb", buffering=0))
            self._write(self._reasons, b"row\tfile\tline\trule\n")
        except OSError as error:
            raise self._unwritable(error) from None

    @staticmethod
    def paths(path: Path) -> tuple[Path, Path]:
        """Return the paths of both files."""
        return path, path.with_name(f"{path.name}.reasons")

    def add(self, reject: Reject, line: Line) -> None:
        """Write a row and its reason. Raise RejectsUnwritable."""
        row = ""
        try:
            if line.raw:
                if self._header:
                    self._write_lines(self._header)
                    self._header = b""
                row = str(self._next_row)
                self._write_lines(line.raw)
            reason = f"{row}\t{plain(reject.file)}\t{reject.line}\t{plain(reject.rule)}\n"
            self._write(self._reasons, reason.encode(errors="backslashreplace"))
        except OSError as error:
            raise self._unwritable(error) from None

    def _write_lines(self, lines: bytes) -> None:
        lines = lines.removesuffix(b"\n") + b"\n"
        self._write(self._rows, lines)
        self._next_row += lines.count(b"\n")

    @staticmethod
    def _write(file: FileIO, content: bytes) -> None:
        """Write all bytes at once, so that the files are whole whenever the import ends."""
        while content:
            content = content[file.write(content) :]

    def _unwritable(self, error: OSError) -> RejectsUnwritable:
        return RejectsUnwritable(
            f"cannot write the rejects to {self.path}: {error.strerror or error}"
        )
