"""Rows of csv files, of one line or several."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedsvc.cli.importing.csv_rows import Quotes, csv_rows
from feedsvc.cli.importing.files import Line


def rows_of(text: bytes) -> list[Line]:
    lines = text.splitlines(keepends=True)
    return list(csv_rows(Line(number, line) for number, line in enumerate(lines, 1)))


def test_a_quoted_cell_may_hold_line_ends_commas_and_doubled_quotes() -> None:
    rows = rows_of(b'a,"b,\n""c\r\n",d\r\ne,f\n"g\n","h"')
    assert rows == [
        Line(1, b'a,"b,\n""c\r\n",d\r\n'),
        Line(4, b"e,f\n"),
        Line(5, b'"g\n","h"'),
    ]


def test_a_quote_within_a_cell_without_quotes_is_text() -> None:
    assert rows_of(b'a,5" disk\nb,c\n') == [Line(1, b'a,5" disk\n'), Line(2, b"b,c\n")]


@pytest.mark.parametrize(
    ("first_line", "quotes"),
    [(b'a,"b\n', Quotes.OPEN), (b'"a"b,c\n', Quotes.BROKEN), (b'a,"b\n"x"\n', Quotes.BROKEN)],
)
def test_a_stray_quote_costs_only_its_own_line(first_line: bytes, quotes: Quotes) -> None:
    first, *others = rows_of(first_line + b"c,d\ne,f\n")
    assert first == Line(1, first_line.splitlines(keepends=True)[0], quotes.value)
    assert [row.raw for row in others][-2:] == [b"c,d\n", b"e,f\n"]


@pytest.mark.parametrize(
    ("quotes", "words"),
    [
        (Quotes.OPEN, "has a quote that nothing closes"),
        (Quotes.BROKEN, "has text after a closing quote: write a quote in a quoted cell twice"),
    ],
)
def test_wrong_quotes_are_named_in_words(quotes: Quotes, words: str) -> None:
    assert quotes.value == words


@given(st.lists(st.lists(st.text(alphabet='ab",\n'), min_size=2, max_size=3), max_size=8))
def test_rows_are_those_that_were_written(table: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows(table)
    rows = rows_of(written.getvalue().encode())
    assert [next(csv.reader([row.raw.decode()], strict=True)) for row in rows] == table


@given(st.binary(max_size=200))
def test_no_bytes_are_lost(text: bytes) -> None:
    text = text.replace(b"\r", b"")
    lines = [line + b"\n" for line in text.split(b"\n")]
    rows = csv_rows(Line(number, line) for number, line in enumerate(lines, 1))
    assert b"".join(row.raw for row in rows) == b"".join(lines)
