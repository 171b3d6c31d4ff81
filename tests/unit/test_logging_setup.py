"""The format of the log: a line for each record."""

import logging
import sys
from typing import Any

from feedsvc.cli.logging_setup import LineFormatter


def line(name: str, message: str, *arguments: object, error: Any = None) -> str:
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, error)
    record.created = 1_700_000_000.25
    return LineFormatter().format(record)


def test_line_has_time_level_short_name_and_message() -> None:
    begin = "2023-11-14T22:13:20.250Z ERROR"
    assert line("feedsvc.core.health", "%s is gone", "it") == f"{begin} health: it is gone"
    assert line("asyncio", "slow") == f"{begin} asyncio: slow"


def test_message_cannot_begin_a_line_or_command_a_terminal() -> None:
    assert line("feedsvc.worker", "a\nb\x1b[31m\u2028é") == (
        r"2023-11-14T22:13:20.250Z ERROR worker: a\nb\x1b[31m\u2028é"
    )


def test_lines_of_a_traceback_begin_with_spaces() -> None:
    try:
        raise ValueError("a\n2023-11-14T22:13:20.250Z INFO health: forged\x1b")  # noqa: TRY301
    except ValueError:
        first, *others = line("feedsvc.worker", "it failed", error=sys.exc_info()).split("\n")
    assert first.endswith(" it failed")
    assert others[0] == "  Traceback (most recent call last):"
    assert others[-1] == r"  2023-11-14T22:13:20.250Z INFO health: forged\x1b"
    assert all(other.startswith("  ") for other in others)
