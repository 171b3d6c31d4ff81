"""Admission: when a call begins, and which calls are refused."""

import pytest

from feedsvc.admission import CALLER_DIVISOR, OPERATOR_CALLS, Admission, Turn
from feedsvc.errors import Draining, ServerOverloaded


def begun(turn: Turn) -> bool:
    return turn.begin is None or (turn.begin.done() and not turn.begin.cancelled())


@pytest.fixture
async def admission() -> Admission:
    return Admission(max_calls=40, caller_share=4, max_held_bytes=1_000)


async def test_calls_within_the_share_begin_at_once(admission: Admission) -> None:
    assert all(begun(admission.enter("a")) for _ in range(4))


async def test_calls_beyond_the_share_begin_in_order_as_others_end(admission: Admission) -> None:
    turns = [admission.enter("a") for _ in range(10)]
    assert [begun(turn) for turn in turns] == [True] * 4 + [False] * 6
    turns[2].leave()
    turns[0].leave()
    assert [begun(turn) for turn in turns] == [True] * 6 + [False] * 4


async def test_callers_do_not_wait_for_each_other(admission: Admission) -> None:
    for _ in range(15):
        admission.enter("greedy")
    assert begun(admission.enter("calm"))


async def test_heavy_calls_take_more_of_the_share(admission: Admission) -> None:
    first, second, light = (admission.enter("a", weight) for weight in (3, 3, 1))
    assert (begun(first), begun(second), begun(light)) == (True, False, False)
    first.leave()
    assert (begun(second), begun(light)) == (True, True)


async def test_a_call_heavier_than_the_share_begins_alone(admission: Admission) -> None:
    light, heavy, later = (admission.enter("a", weight) for weight in (1, 16, 1))
    assert not begun(heavy)
    light.leave()
    assert (begun(heavy), begun(later)) == (True, False)
    heavy.leave()
    assert begun(later)


async def test_a_call_that_only_waits_lets_others_begin(admission: Admission) -> None:
    turns = [admission.enter("a") for _ in range(5)]
    turns[0].release()
    assert begun(turns[4])
    turns[0].leave()
    assert admission.calls == 4
    sixth = admission.enter("a")
    assert not begun(sixth)


async def test_a_cancelled_call_leaves_the_queue(admission: Admission) -> None:
    turns = [admission.enter("a") for _ in range(7)]
    turns[4].leave()
    turns[5].leave()
    assert admission.calls == 5
    turns[0].leave()
    assert begun(turns[6])


async def test_too_many_calls_are_refused(admission: Admission) -> None:
    """A caller is refused before it has used up the calls of all others."""
    greedy = [admission.enter("greedy") for _ in range(40 // CALLER_DIVISOR)]
    with pytest.raises(ServerOverloaded):
        admission.enter("greedy")
    others = [admission.enter(f"other {n}") for n in range(40 - len(greedy))]
    with pytest.raises(ServerOverloaded):
        admission.enter("last")
    for turn in (*greedy, *others):
        turn.leave()
    assert begun(admission.enter("last"))


async def test_heavy_calls_are_refused_while_requests_take_too_much_memory(
    admission: Admission,
) -> None:
    first = admission.enter("a", 2)
    first.hold(600)
    second = admission.enter("b", 2)
    second.hold(600)
    with pytest.raises(ServerOverloaded):
        admission.enter("c", 2)
    assert begun(admission.enter("c", 1))
    first.leave()
    assert begun(admission.enter("c", 2))


async def test_callers_without_calls_are_forgotten(admission: Admission) -> None:
    turns = [admission.enter(f"caller {n % 5}", 1 + n % 3) for n in range(20)]
    for turn in turns:
        turn.hold(10)
        turn.leave()
        turn.leave()
    assert (admission.calls, admission.held_bytes, admission._callers) == (0, 0, {})


async def test_a_stopping_server_refuses_waiting_and_later_calls(admission: Admission) -> None:
    turns = [admission.enter("a") for _ in range(6)]
    admission.drain()
    for turn in turns[4:]:
        assert turn.begin is not None
        assert isinstance(turn.begin.exception(), Draining)
        turn.leave()
    with pytest.raises(Draining):
        admission.enter("a")
    assert all(begun(turn) for turn in turns[:4])
    for turn in turns[:4]:
        turn.leave()
    await admission.idle()


async def test_full_or_stopping_server_admits_calls_for_operators(admission: Admission) -> None:
    for number in range(40):
        admission.enter(f"other {number}")
    for number in range(OPERATOR_CALLS):
        assert begun(admission.enter(f"operator {number}", for_operators=True))
    with pytest.raises(ServerOverloaded):
        admission.enter("operator", for_operators=True)
    admission = Admission(max_calls=40, caller_share=4, max_held_bytes=1_000)
    admission.drain()
    assert begun(admission.enter("operator", for_operators=True))
    with pytest.raises(Draining):
        admission.enter("operator")
