"""Background work: it goes on whatever happens, and what happened is logged."""

import asyncio
import logging

import pytest

from feedsvc.core import background


async def test_work_that_dies_is_started_again_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0)
    runs = []
    well = asyncio.Event()

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise ValueError("broken")
        well.set()
        await asyncio.Event().wait()

    task = background.supervised("the work", work)
    async with asyncio.timeout(10):
        await well.wait()
    await background.end(task)
    assert task.cancelled()
    assert len(runs) == 3
    told = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert [one.getMessage() for one in told] == ["the work died and is started again"] * 2
    assert all(one.exc_info for one in told)


async def test_work_that_is_over_is_left() -> None:
    async def work() -> None:
        pass

    async with asyncio.timeout(10):
        await background.supervised("the work", work)


async def test_end_is_asked_for_until_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
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
