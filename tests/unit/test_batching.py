"""Turns between callers: what leaves in which batch."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from typing import Any

import pytest

from feedsvc.core.batching import (
    ABOUT_SECONDS,
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
    """Takes batches and answers them with themselves, one batch each time it is allowed to."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def send(self, batch: list[Command]) -> list[Any]:
        await self.go_on.wait()
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
        if any(one[0] == caller for one in batch)
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
        sent = [one[1] for batch in wire.batches for one in batch if one[0] == caller]
        assert sent == list(range(700))


async def test_a_batch_is_bounded_by_its_cost(batcher: Batcher, wire: Wire) -> None:
    await asyncio.gather(*calls(batcher, "alone", 50, cost=300))
    assert max(map(len, wire.batches)) <= BATCH_COST // 300 + 1
    await asyncio.gather(*calls(batcher, "alone", 2 * BATCH))
    assert max(map(len, wire.batches)) == BATCH


async def test_batches_are_short_while_somebody_is_beside_who_has_much_to_send(
    batcher: Batcher, wire: Wire
) -> None:
    await asyncio.gather(*calls(batcher, "calm", 1), *calls(batcher, "greedy", 2_000))
    # A command costs 2; the last turn of a batch may exceed what is left.
    assert max(map(len, wire.batches)) <= (SHARED_COST + TURN_COST) / 2
    await asyncio.sleep(2 * ABOUT_SECONDS)
    wire.batches.clear()
    await asyncio.gather(*calls(batcher, "greedy", 2_000))
    assert max(map(len, wire.batches)) == BATCH


async def test_many_callers_with_little_to_send_share_a_batch(batcher: Batcher, wire: Wire) -> None:
    everybody = [calls(batcher, f"caller {number}", 1)[0] for number in range(BATCH)]
    await asyncio.gather(*everybody)
    assert len(wire.batches) == 1


async def test_a_batch_does_not_wait_for_what_others_do(batcher: Batcher, wire: Wire) -> None:
    """While several callers are about, it is collected for as long as that takes no time."""

    async def busy() -> None:
        while True:
            time.sleep(0.002)  # noqa: ASYNC251 (that is what keeps the loop)
            turns.append(1)
            await asyncio.sleep(0)

    turns = list[int]()
    await asyncio.gather(*calls(batcher, "a", 2))  # a batch of several is followed by collecting
    task = asyncio.create_task(busy())
    await asyncio.gather(*calls(batcher, "a", 1), *calls(batcher, "b", 1))
    assert len(turns) < TURNS
    task.cancel()


async def test_callers_share_by_cost_not_by_number(batcher: Batcher, wire: Wire) -> None:
    """While both have something waiting, who sends costly commands sends fewer of them."""
    await asyncio.gather(
        *calls(batcher, "costly", 100, cost=98), *calls(batcher, "cheap", 5_000, cost=0)
    )
    both = [batch for batch in wire.batches if len({one[0] for one in batch}) == 2][1:-1]
    assert both
    for batch in both:
        costly = sum(one[0] == "costly" for one in batch)
        cheap = len(batch) - costly
        # A command of `cheap` costs 2, one of `costly` 100: a turn of each costs the same.
        assert abs(100 * costly - 2 * cheap) <= 2 * TURN_COST


async def test_a_cancelled_command_does_not_leave(batcher: Batcher, wire: Wire) -> None:
    first, second, third = calls(batcher, "a", 3)
    second.cancel()
    assert (await first, await third) == (("a", 0), ("a", 2))
    assert [one for batch in wire.batches for one in batch] == [("a", 0), ("a", 2)]


async def test_a_caller_whose_commands_were_all_cancelled_is_forgotten(
    batcher: Batcher, wire: Wire
) -> None:
    wire.go_on.clear()
    for answer in calls(batcher, "gone", 10):
        answer.cancel()
    there = calls(batcher, "there", 1)
    wire.go_on.set()
    await asyncio.gather(*there)
    assert [one for batch in wire.batches for one in batch] == [("there", 0)]
    assert not batcher._queues
    assert not batcher._turns
    assert not batcher._newcomers


async def test_very_many_callers_each_get_a_turn(batcher: Batcher, wire: Wire) -> None:
    answers = [answer for n in range(500) for answer in calls(batcher, f"caller {n}", 20)]
    await asyncio.gather(*answers)
    firsts = [first_batch_with(wire, f"caller {n}") for n in range(500)]
    # Each of them is served once before any is served for the third time.
    assert firsts == sorted(firsts)
    sent = [one[0] for batch in wire.batches for one in batch]
    assert len(sent) == 10_000


def test_a_push_costs_what_it_may_reach_until_its_audience_is_known() -> None:
    sizes = Sizes()
    assert sizes.expected("alice", 1, 16, 500) == 500
    sizes.note("alice", 160)
    assert sizes.expected("alice", 1, 16, 500) == 10
    assert sizes.expected("alice", 16, 16, 500) == 160
    assert sizes.expected("alice", 16, 16, 90) == 90
    sizes.note("topic", 0)
    assert sizes.expected("topic", 0, 0, 500) == 0


def test_audiences_of_so_many_entities_are_remembered() -> None:
    sizes = Sizes()
    for number in range(REMEMBERED + 1):
        sizes.note(f"author{number}", 1)
    assert sizes.expected("author0", 1, 1, 500) == 500
    assert sizes.expected("author1", 1, 1, 500) == 1
