"""Background work: it restarts after every error, and the error is logged."""

import asyncio
import logging

import pytest

from feedsvc.core import background


async def test_work_that_fails_is_started_again_and_the_error_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0)
    runs = []
    survived = asyncio.Event()

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise ValueError("broken")
        survived.set()
        await asyncio.Event().wait()

    task = background.supervised("the work", work)
    async with asyncio.timeout(10):
        await survived.wait()
    await background.end(task)
    assert task.cancelled()
    assert len(runs) == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["the work died and is started again"] * 2
    assert all(record.exc_info for record in errors)


async def test_work_that_ends_is_not_started_again() -> None:
    async def work() -> None:
        pass

    async with asyncio.timeout(10):
        await background.supervised("the work", work)


async def test_cancellation_is_repeated_until_the_task_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """redis-py may swallow a cancellation."""
    monkeypatch.setattr(background, "CANCEL_AGAIN_SECONDS", 0.001)
    swallowed = []

    async def stubborn() -> None:
        while len(swallowed) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(1)
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await background.end(task)
    assert len(swallowed) == 3
