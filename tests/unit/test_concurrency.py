"""Concurrent copies of one piece of work."""

import asyncio

import pytest

from feedsvc.core.concurrency import run_concurrently


async def test_copies_share_a_queue_and_run_at_a_time() -> None:
    numbers = iter(range(10))
    running = most_running = 0
    done: list[int] = []

    async def work() -> None:
        nonlocal running, most_running
        for number in numbers:
            running += 1
            most_running = max(most_running, running)
            await asyncio.sleep(0)
            running -= 1
            done.append(number)

    await run_concurrently(work, 3)
    assert sorted(done) == list(range(10))
    assert most_running == 3


@pytest.mark.parametrize("copies", [0, 1])
async def test_a_single_copy_runs_in_the_task_of_the_caller(copies: int) -> None:
    tasks = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    await run_concurrently(work, copies)
    assert tasks == [asyncio.current_task()]


async def test_the_first_error_is_raised_itself_after_the_other_copies_have_ended() -> None:
    numbers = iter(range(3))
    cancelled: list[int] = []

    async def work() -> None:
        number = next(numbers)
        if number == 1:
            raise LookupError
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(number)

    with pytest.raises(LookupError):
        await run_concurrently(work, 3)
    assert sorted(cancelled) == [0, 2]


async def test_cancelling_the_caller_cancels_all_copies() -> None:
    started: list[int] = []
    all_started = asyncio.Event()
    cancelled: list[int] = []

    async def work() -> None:
        started.append(1)
        if len(started) == 4:
            all_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(1)

    task = asyncio.create_task(run_concurrently(work, 4))
    await all_started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(cancelled) == 4


async def test_a_cancelled_copy_is_not_taken_for_one_that_has_done_its_part() -> None:
    """A copy ends so if what it waits for is cancelled: its part of the work is missing."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future(), loop.create_future()]
    waiting = iter(answers)
    both_wait = asyncio.Barrier(3)

    async def work() -> None:
        answer = next(waiting)
        await both_wait.wait()
        await answer

    task = asyncio.create_task(run_concurrently(work, 2))
    await both_wait.wait()
    answers[0].cancel()
    answers[1].set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await task
