"""Files and their formats, as the import checks them before it begins."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from feedsvc.cli.importing.sources import (
    FORMAT_NAMES,
    Source,
    UnusableFile,
    check_first_rows,
    open_sources,
)
from feedsvc.cli.importing.tables import TableOptions

Open = Callable[..., Source]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Function that opens a file with some content."""
    with ExitStack() as resources:

        def open_content(
            content: bytes, name: str = "rows", format_name: str | None = None, *options: str
        ) -> Source:
            path = tmp_path / name
            path.write_bytes(content)
            columns = options[0] if options else None
            given = TableOptions.parse(columns, (), (), (), "|")
            (source,) = open_sources([str(path)], format_name, given, resources)
            return source

        yield open_content


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.tsv", "tsv"), ("a.csv", "csv"), ("a.TSV.gz", "tsv"), ("a.csv.gz", "csv"),
        ("a.jsonl", "jsonl"), ("a", "jsonl"), ("a.txt.gz", "jsonl"), ("csv", "jsonl"),
    ],
)  # fmt: skip
def test_the_name_of_a_file_says_its_format(opened: Open, name: str, format_name: str) -> None:
    assert opened(b"actor,verb\n".replace(b",", b"\t" if "tsv" in name.lower() else b","), name)
    assert opened(b"", name).format_name == format_name


def test_a_file_with_columns_has_no_row_of_its_header_line(opened: Open) -> None:
    source = opened(b'\xef\xbb\xbf"follower",followee\r\na,b\r\n\r\nc,d', "rows.csv")
    assert [line.number for line in source.lines() if source.row(line)] == [2, 4]
    assert source.header == b'"follower",followee\r\n'


def test_a_file_without_header_line_begins_with_a_row(opened: Open) -> None:
    source = opened(b"a\tb\nc\td\n", "rows.tsv", None, "follower,followee")
    assert [line.number for line in source.lines() if source.row(line)] == [1, 2]
    assert source.header == b""


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_an_empty_file_is_of_every_format(opened: Open, name: str) -> None:
    source = opened(b"", "rows", name)
    check_first_rows(source)
    assert list(source.lines()) == []


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b'{"follow": {}}\n', [], "its lines are JSON, not tsv: --format jsonl"),
        (b"follower\tfollowee\na\tb\n", ["followee,follower"], ("its first line is a header line, "
         "follower, followee, and --columns is for files without a header line: leave --columns "
         "out")),
        (b"a\xffb\tc\n", [], "the header line is not UTF-8: byte 0xff at position 2"),
        (b"x" * 2_000_000, [], "the header line is longer than 1,048,576 bytes"),
        ("a\tb\n".encode("utf-16"), [], ("is UTF-16, not UTF-8: import the output of "
         "iconv -f UTF-16 -t UTF-8")),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(
    opened: Open, tmp_path: Path, content: bytes, options: list[str], message: str
) -> None:
    with pytest.raises(UnusableFile) as caught:
        opened(content, "rows.tsv", None, *options)
    assert str(caught.value).removeprefix(str(tmp_path / "rows.tsv")).lstrip(": ") == message


@pytest.mark.parametrize(
    ("name", "content", "reason_and_advice"),
    [
        ("jsonl", b"bob,alice\n", ("is not JSON: Expecting value at position 1",
         "Is the file --format tsv or csv?")),
        ("jsonl", b"{\n", (("is not JSON: Expecting property name enclosed in double quotes at "
         "position 2"), "jsonl has each object on one line: jq -c . writes objects so")),
        ("jsonl", b"[]\n", ('must be {"activity": ...} or {"follow": ...}',
         "jsonl has one object on each line, not a list: jq -c '.[]' writes a list so")),
        ("jsonl", b'{"actor": "a"}\n', ('must be {"activity": ...} or {"follow": ...}',
         "feedsvc import --help shows the form of a line")),
        ("jsonl", b'{"follow": {"follower": "a", "followee": "a"}}\n',
         ("followee: must be another entity than follower",
          "feedsvc import --help shows the form of a line")),
        ("higgs", b"1\n", ("must have 4 columns (an activity), or 2 or 3 (a follow)",
         "Is --format higgs right for this file?")),
    ],
)  # fmt: skip
def test_a_file_whose_first_rows_are_all_wrong_is_refused(
    opened: Open, tmp_path: Path, name: str, content: bytes, reason_and_advice: tuple[str, str]
) -> None:
    check_first_rows(opened(content * 999, "rows", name))
    with pytest.raises(UnusableFile) as caught:
        check_first_rows(opened(content * 1_000, "rows", name))
    assert str(caught.value) == (
        f"{tmp_path / 'rows'}: none of the first 1,000 rows can be imported, so nothing was "
        f"imported. Line 1: {'. '.join(reason_and_advice)}"
    )


def test_a_time_in_the_wrong_unit_is_noticed_before_the_import(opened: Open) -> None:
    rows = b"actor,verb,time\n" + b"alice,post,17\n" * 1_000
    with pytest.raises(UnusableFile, match="Line 2: column time: must not be before 1985-02-09T"):
        check_first_rows(opened(rows, "rows.csv"))


def test_one_good_row_among_the_first_is_enough(opened: Open) -> None:
    content = b"1\n" * 999 + b"1 2\n" + b"1\n" * 2_000
    check_first_rows(opened(content, "rows", "higgs"))
