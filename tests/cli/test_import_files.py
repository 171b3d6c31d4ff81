"""Files that the import reads."""

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from feedsvc.cli.importing.files import MAX_LINE_BYTES, DamagedFile, ForeignFile, ImportFile, Line

TEXT = b"one\ntwo\r\n\nfour"
LINES = [Line(1, b"one\n"), Line(2, b"two\r\n"), Line(3, b"\n"), Line(4, b"four")]


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(tmp_path: Path, resources: ExitStack, content: bytes) -> ImportFile:
    # The name has no suffix: a gzip file is recognised by its first bytes.
    path = tmp_path / "rows"
    path.write_bytes(content)
    return ImportFile(str(path), resources)


@pytest.mark.parametrize("content", [TEXT, gzip.compress(TEXT)], ids=["plain", "gzip"])
def test_lines_can_be_read_again(tmp_path: Path, resources: ExitStack, content: bytes) -> None:
    file = opened(tmp_path, resources, content)
    assert list(file.lines()) == LINES
    assert file.position == file.size == len(content)
    assert list(file.lines()) == LINES


def test_the_content_of_a_line_has_no_line_end() -> None:
    assert [line.content for line in LINES] == [b"one", b"two", b"", b"four"]


def test_several_gzip_members_are_one_file(tmp_path: Path, resources: ExitStack) -> None:
    members = gzip.compress(b"one\ntw") + gzip.compress(b"o\r\n\nfour")
    assert list(opened(tmp_path, resources, members).lines()) == LINES


def test_a_pipe_can_be_read_again(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[TEXT])
    writer.start()
    file = ImportFile(str(path), resources)
    writer.join()
    assert file.size == len(TEXT)
    assert list(file.lines()) == LINES
    assert list(file.lines()) == LINES


def test_an_empty_file_has_no_lines(tmp_path: Path, resources: ExitStack) -> None:
    assert list(opened(tmp_path, resources, b"").lines()) == []


def test_a_mark_before_the_first_line_is_left_out(tmp_path: Path, resources: ExitStack) -> None:
    assert list(opened(tmp_path, resources, b"\xef\xbb\xbf" + TEXT).lines()) == LINES


def test_a_line_that_is_too_long_is_not_kept_and_costs_no_other_line(
    tmp_path: Path, resources: ExitStack
) -> None:
    longest = b"x" * (MAX_LINE_BYTES - 1) + b"\n"
    content = b"one\n" + b"x" * (5 * MAX_LINE_BYTES) + b"\n" + longest + b"y" + longest
    lines = list(opened(tmp_path, resources, content).lines())
    assert max(len(line.raw) for line in lines) == MAX_LINE_BYTES
    assert [line for line in lines if line.raw or line.problem] == [
        Line(1, b"one\n"),
        Line(2, b"", "is longer than 1,048,576 bytes"),
        Line(3, longest),
        Line(4, b"", "is longer than 1,048,576 bytes"),
    ]


def test_a_file_that_is_cut_off_is_read_up_to_there(tmp_path: Path, resources: ExitStack) -> None:
    members = [gzip.compress(b"%d\n" % number) for number in range(1_000)]
    lines = opened(tmp_path, resources, b"".join(members)[:-12]).lines()
    assert [next(lines).number for _ in range(999)] == list(range(1, 1_000))
    with pytest.raises(DamagedFile) as caught:
        list(lines)
    assert str(caught.value) == "ends early: the gzip file is cut off after line 999"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"one\n") + b"rubbish", gzip.compress(b"one\n")[:-8] + b"x" * 8],
    ids=["data after the end", "checksum"],
)
def test_a_file_that_is_not_gzip_to_its_end_is_damaged(
    tmp_path: Path, resources: ExitStack, content: bytes
) -> None:
    with pytest.raises(DamagedFile, match=r"^is damaged after line [01]: what follows is not gzip"):
        list(opened(tmp_path, resources, content).lines())


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("id,name\n".encode("utf-16"), ("is UTF-16, not UTF-8: import the output of "
         "iconv -f UTF-16 -t UTF-8")),
        ("id,name\n".encode("utf-16-le"), ("is UTF-16, not UTF-8: import the output of "
         "iconv -f UTF-16 -t UTF-8")),
        ("id,name\n".encode("utf-16-be"), ("is UTF-16, not UTF-8: import the output of "
         "iconv -f UTF-16 -t UTF-8")),
        (gzip.compress("id\n".encode("utf-16"), mtime=0),
         ("is UTF-16, not UTF-8: import the output of iconv -f UTF-16 -t UTF-8")),
        (b"\x28\xb5\x2f\xfdx", "is compressed with zstd: import the output of zstd -dc"),
        (b"\xfd7zXZ\x00", "is compressed with xz: import the output of xz -dc"),
        (b"BZh91AY&SY", "is compressed with bzip2: import the output of bzip2 -dc"),
        (b"PK\x03\x04", "is a zip file: import the output of unzip -p"),
        (b"PAR1\x15", "is a Parquet file: export it as csv or as lines of JSON"),
        (b"Obj\x01", "is an Avro file: export it as csv or as lines of JSON"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_with_advice(
    tmp_path: Path, resources: ExitStack, content: bytes, advice: str
) -> None:
    with pytest.raises(ForeignFile) as caught:
        opened(tmp_path, resources, content)
    assert str(caught.value) == advice
