"""Rows of csv files (RFC 4180), whose quoted cells may hold line ends."""

import re
from collections import deque
from collections.abc import Iterator
from enum import Enum

from feedsvc.cli.importing.files import MAX_LINE_BYTES, Line

#: The remainder of a quoted cell with its closing quote. A doubled quote is a quote of the text.
_QUOTED_REMAINDER = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')


class Quotes(Enum):
    """The state of quotes at the end of a line."""

    CLOSED = ""
    OPEN = "has a quote that nothing closes"
    BROKEN = "has text after a closing quote: write a quote in a quoted cell twice"


def csv_rows(lines: Iterator[Line]) -> Iterator[Line]:
    """Yield each row; the row of several lines has the number of its first line.

    If the quotes of a row are wrong, only its first line has the problem: the next row begins at
    the next line, so that a stray quote costs no further rows.
    """
    unread: deque[Line] = deque()

    def next_line() -> Line | None:
        return unread.popleft() if unread else next(lines, None)

    while (line := next_line()) is not None:
        if line.problem or b'"' not in line.raw:
            yield line
            continue
        parts = [line]
        quotes, size = quotes_after(line.raw, is_open=False), len(line.raw)
        while quotes is Quotes.OPEN and (part := next_line()) is not None:
            parts.append(part)
            size += len(part.raw)
            if part.problem or size > MAX_LINE_BYTES:
                break
            quotes = quotes_after(part.raw, is_open=True)
        if quotes is Quotes.CLOSED:
            yield Line(line.number, b"".join(part.raw for part in parts))
        else:
            unread.extendleft(reversed(parts[1:]))
            yield Line(line.number, line.raw, quotes.value)


def quotes_after(line: bytes, *, is_open: bool) -> Quotes:
    """Return the state of quotes after a line; ``is_open``: the line begins within quotes."""
    line = line.rstrip(b"\r\n") if not is_open else line
    index = 0
    while True:
        if not is_open and line[index : index + 1] == b'"':
            is_open = True
            index += 1
        if is_open:
            remainder = _QUOTED_REMAINDER.match(line, index)
            if remainder is None:
                return Quotes.OPEN
            index, is_open = remainder.end(), False
            if not line[index:].rstrip(b"\r\n"):
                return Quotes.CLOSED
            if line[index : index + 1] != b",":
                return Quotes.BROKEN
        else:
            index = line.find(b",", index)
            if index < 0:
                return Quotes.CLOSED
        index += 1
