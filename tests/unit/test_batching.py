"""Batches: the commands that leave together, and the turns of callers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from typing import Any

import pytest

from feedsvc.core.batching import (
    ACTIVE_SECONDS,
    BATCH,
    BATCH_COST,
    CALLER,
    SHARED_COST,
    TURN_COST,
    TURNS,
    Batcher,
    Command,
)
from feedsvc.core.fanout import REMEMBERED, Sizes


class Wire:
    """Records batches, and answers each with itself while `is_open` is set."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def send(self, batch: list[Command]) -> list[Any]:
        await self.is_open.wait()
        self.batches.append(batch)
        return list(batch)


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def batcher(wire: Wire) -> AsyncIterator[Batcher]:
    batcher = Batcher(wire.send, lambda error: error)
    yield batcher
    await batcher.close()


def as_caller(caller: str, work: Callable[[], Any]) -> Any:
    def call() -> Any:
        CALLER.set(caller)
        return work()

    return copy_context().run(call)


def calls(batcher: Batcher, caller: str, count: int, cost: int = 0) -> list["asyncio.Future[Any]"]:
    return as_caller(
        caller, lambda: [batcher.call((caller, number), cost) for number in range(count)]
    )


def first_batch_with(wire: Wire, caller: str) -> int:
    return next(
        number
        for number, batch in enumerate(wire.batches)
        if any(command[0] == caller for command in batch)
    )


async def test_one_command_does_not_wait_for_hundreds_of_another_caller(
    batcher: Batcher, wire: Wire
) -> None:
    greedy = calls(batcher, "greedy", 2_000)
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # its first batch is in flight
    calm = calls(batcher, "calm", 1)
    await asyncio.gather(*greedy, *calm)
    assert first_batch_with(wire, "calm") <= 1
    assert len(wire.batches) > 5


async def test_commands_of_one_caller_leave_in_their_order(batcher: Batcher, wire: Wire) -> None:
    await asyncio.gather(*calls(batcher, "a", 700), *calls(batcher, "b", 700, cost=40))
    for caller in ("a", "b"):
        sent = [command[1] for batch in wire.batches for command in batch if command[0] == caller]
        assert sent == list(range(700))


async def test_batch_is_bounded_by_its_cost(batcher: Batcher, wire: Wire) -> None:
    await asyncio.gather(*calls(batcher, "alone", 50, cost=300))
    assert max(map(len, wire.batches)) <= BATCH_COST // 300 + 1
    await asyncio.gather(*calls(batcher, "alone", 2 * BATCH))
    assert max(map(len, wire.batches)) == BATCH


async def test_batches_of_a_busy_caller_are_short_while_others_are_active(
    batcher: Batcher, wire: Wire
) -> None:
    await asyncio.gather(*calls(batcher, "calm", 1), *calls(batcher, "greedy", 2_000))
    # A command costs 2; the last turn of a batch may exceed the remaining cost.
    assert max(map(len, wire.batches)) <= (SHARED_COST + TURN_COST) / 2
    await asyncio.sleep(2 * ACTIVE_SECONDS)
    wire.batches.clear()
    await asyncio.gather(*calls(batcher, "greedy", 2_000))
    assert max(map(len, wire.batches)) == BATCH


async def test_many_callers_with_few_commands_share_a_batch(batcher: Batcher, wire: Wire) -> None:
    answers = [calls(batcher, f"caller {number}", 1)[0] for number in range(BATCH)]
    await asyncio.gather(*answers)
    assert len(wire.batches) == 1


async def test_batch_does_not_wait_for_other_work_of_the_event_loop(
    batcher: Batcher, wire: Wire
) -> None:
    """While several callers are active, a batch collects commands only for a short time."""

    async def keep_loop_busy() -> None:
        while True:
            time.sleep(0.002)  # noqa: ASYNC251 (it keeps the loop busy)
            turns.append(1)
            await asyncio.sleep(0)

    turns = list[int]()
    await asyncio.gather(
        *calls(batcher, "a", 2)
    )  # after a batch of several commands the batcher collects
    task = asyncio.create_task(keep_loop_busy())
    await asyncio.gather(*calls(batcher, "a", 1), *calls(batcher, "b", 1))
    assert len(turns) < TURNS
    task.cancel()


async def test_callers_share_batches_by_cost_and_not_by_number(
    batcher: Batcher, wire: Wire
) -> None:
    """While both callers have waiting commands, the caller of costly commands sends fewer."""
    await asyncio.gather(
        *calls(batcher, "costly", 100, cost=98), *calls(batcher, "cheap", 5_000, cost=0)
    )
    shared = [batch for batch in wire.batches if len({caller for caller, _ in batch}) == 2]
    shared = shared[1:-1]
    assert shared
    for batch in shared:
        costly = sum(caller == "costly" for caller, _ in batch)
        cheap = len(batch) - costly
        # A command of `cheap` costs 2, one of `costly` 100: a turn of each costs the same.
        assert abs(100 * costly - 2 * cheap) <= 2 * TURN_COST


async def test_cancelled_command_is_not_sent(batcher: Batcher, wire: Wire) -> None:
    first, second, third = calls(batcher, "a", 3)
    second.cancel()
    assert (await first, await third) == (("a", 0), ("a", 2))
    assert [command for batch in wire.batches for command in batch] == [("a", 0), ("a", 2)]


async def test_caller_whose_commands_are_all_cancelled_is_forgotten(
    batcher: Batcher, wire: Wire
) -> None:
    wire.is_open.clear()
    for answer in calls(batcher, "gone", 10):
        answer.cancel()
    other_answers = calls(batcher, "other", 1)
    wire.is_open.set()
    await asyncio.gather(*other_answers)
    assert [command for batch in wire.batches for command in batch] == [("other", 0)]
    assert not batcher._queues
    assert not batcher._turns
    assert not batcher._newcomers


async def test_each_of_very_many_callers_has_a_turn(batcher: Batcher, wire: Wire) -> None:
    answers = [answer for n in range(500) for answer in calls(batcher, f"caller {n}", 20)]
    await asyncio.gather(*answers)
    firsts = [first_batch_with(wire, f"caller {n}") for n in range(500)]
    # Each caller has a turn before any caller has its third.
    assert firsts == sorted(firsts)
    assert sum(map(len, wire.batches)) == 10_000


def test_push_costs_what_it_may_reach_until_its_audience_is_known() -> None:
    sizes = Sizes()
    assert sizes.expected("alice", 1, 16, 500) == 500
    sizes.note("alice", 160)
    assert sizes.expected("alice", 1, 16, 500) == 10
    assert sizes.expected("alice", 16, 16, 500) == 160
    assert sizes.expected("alice", 16, 16, 90) == 90
    sizes.note("topic", 0)
    assert sizes.expected("topic", 0, 0, 500) == 0


def test_number_of_remembered_audiences_is_limited() -> None:
    sizes = Sizes()
    for number in range(REMEMBERED + 1):
        sizes.note(f"author{number}", 1)
    assert sizes.expected("author0", 1, 1, 500) == 500
    assert sizes.expected("author1", 1, 1, 500) == 1
