"""Messages that come in floods: the log has a few, and the number of the others."""

import asyncio
import logging
import re

import pytest

from feedsvc.core import log_limits
from feedsvc.core.log_limits import LogLimit, Rate, log_failure

log = logging.getLogger("feedsvc.test")
#: So slow that no budget gets another line during a test.
SLOW = 10_000.0


def summary(count: int, seconds: int) -> str:
    return f"{count:,} more in the last {seconds} s"


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


async def test_each_kind_has_a_budget_and_the_summary_counts_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = LogLimit(log, summary, Rate(3, SLOW))
    loud = [limit.admits(logging.WARNING, "loud") for _ in range(1_010)]
    quiet = [limit.admits(logging.ERROR, "quiet") for _ in range(4)]
    assert (loud.count(True), quiet.count(True)) == (3, 3)
    limit.flush()
    limit.flush()
    assert messages(caplog) == [
        (logging.ERROR, "1,008 more in the last 1 s: loud 1,007, quiet 1"),
    ]


async def test_all_kinds_together_have_a_budget_too() -> None:
    limit = LogLimit(log, summary, Rate(3, SLOW), total=Rate(5, SLOW))
    admitted = [limit.admits(logging.WARNING, f"kind {number // 3}") for number in range(30)]
    assert admitted.count(True) == 5


async def test_budget_fills_up_again() -> None:
    limit = LogLimit(log, summary, Rate(1, 0.01))
    assert limit.admits(logging.WARNING, "kind")
    async with asyncio.timeout(10):
        while not limit.admits(logging.WARNING, "kind"):  # noqa: ASYNC110 (time fills it)
            await asyncio.sleep(0.001)


async def test_summary_comes_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    limit = LogLimit(log, summary, Rate(1, SLOW), summary_seconds=0.01)
    for _ in range(3):
        limit.admits(logging.WARNING, "kind")
    async with asyncio.timeout(10):
        while not caplog.records:  # noqa: ASYNC110 (the log sets no Event)
            await asyncio.sleep(0.001)
    assert messages(caplog) == [(logging.WARNING, "2 more in the last 1 s: kind 2")]


async def test_counts_of_very_many_kinds_add_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_limits, "MAX_KINDS", 50)
    limit = LogLimit(log, summary, Rate(1, SLOW))
    admitted = [limit.admits(logging.WARNING, f"kind {number % 500}") for number in range(2_000)]
    limit.flush()
    ((_, text),) = messages(caplog)
    total, counts = text.split(" more in the last 1 s: ")
    numbers = [int(number.replace(",", "")) for number in re.findall(r" ([\d,]+)(?:, |$)", counts)]
    assert int(total.replace(",", "")) == sum(numbers) == 2_000 - admitted.count(True)
    assert admitted.count(True) == 51
    assert "30 other kinds 90" in counts


async def test_messages_below_the_level_of_the_log_are_not_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, log.name)
    limit = LogLimit(log, summary, Rate(1, SLOW))
    for _ in range(3):
        assert not limit.admits(logging.INFO, "kind")
    limit.flush()
    assert messages(caplog) == []


async def test_background_failure_has_a_traceback_twice_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(5):
        try:
            raise ZeroDivisionError  # noqa: TRY301
        except ZeroDivisionError as error:
            log_failure(log, "looking failed; trying again", error)
    log_limits.reset_all()
    records = [record for record in caplog.records if "looking" in record.getMessage()]
    assert [(record.levelno, record.getMessage()) for record in records] == [
        (logging.ERROR, "looking failed; trying again"),
        (logging.ERROR, "looking failed; trying again"),
        (
            logging.ERROR,
            "3 more failures in the last 1 s: looking failed; trying again (ZeroDivisionError) 3",
        ),
    ]
    assert [bool(record.exc_info) for record in records] == [True, True, False]
