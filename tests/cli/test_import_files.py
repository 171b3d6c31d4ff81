"""Files that the import reads."""

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from feedsvc.cli.importing.files import DamagedFile, ImportFile

TEXT = b"one\ntwo\r\n\nfour"
LINES = [(1, b"one"), (2, b"two"), (3, b""), (4, b"four")]


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("content", [TEXT, gzip.compress(TEXT)], ids=["plain", "gzip"])
def test_lines_can_be_read_again(tmp_path: Path, resources: ExitStack, content: bytes) -> None:
    # The name has no suffix: a gzip file is recognised by its first bytes.
    path = tmp_path / "rows"
    path.write_bytes(content)
    file = ImportFile(str(path), resources)
    assert list(file.lines()) == LINES
    assert file.position == file.size == len(content)
    assert list(file.lines()) == LINES


def test_several_gzip_members_are_one_file(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\r\n\nfour"))
    assert list(ImportFile(str(path), resources).lines()) == LINES


def test_a_pipe_can_be_read_again(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[TEXT])
    writer.start()
    file = ImportFile(str(path), resources)
    writer.join()
    assert list(file.lines()) == LINES
    assert list(file.lines()) == LINES


def test_an_empty_file_has_no_lines(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "rows"
    path.touch()
    assert list(ImportFile(str(path), resources).lines()) == []


def test_a_damaged_file_is_read_up_to_the_damage(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(1_000_000)))[:-1000])
    lines = ImportFile(str(path), resources).lines()
    assert next(lines) == (1, b"0")
    with pytest.raises(DamagedFile, match=r"cannot be read after line \d{3,}"):
        list(lines)


def test_a_file_that_only_begins_like_gzip_is_damaged(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(b"\x1f\x8bno")
    with pytest.raises(DamagedFile):
        list(ImportFile(str(path), resources).lines())
