"""The arithmetic of the benchmarks, on numbers that can be worked out by hand."""

import asyncio

import pytest

from benchmarks.figures import Figure, Target, quantile, rounded
from benchmarks.progress import Progress
from benchmarks.turns import in_turns, timed


def figure(**given) -> Figure:
    return Figure(**{"name": "a", "unit": "ms", "against": "b", "ours": (4, 1, 9)} | given)


def test_medians_are_of_the_rounds():
    one = figure(theirs=(2, 4, 3))
    assert one.ours_median == 4
    assert one.theirs_median == 3


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians():
    one = figure(theirs=(2, 4, 1))
    assert one.ratios == (2, 0.25, 9)
    assert one.ratio == 2


def test_without_an_alternative_there_is_no_ratio():
    one = figure(against="")
    assert one.theirs_median is None
    assert one.ratio is None
    assert one.ratios == ()
    assert one.met is None


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (">= 5", Target(5, at_least=True)),
        ("<= 1.3", Target(1.3, at_least=False)),
        ("<= 12 bytes", Target(12, at_least=False)),
        ("", None),
    ],
)
def test_targets_are_read(text, target):
    assert Target.parse(text) == target


@pytest.mark.parametrize("text", ["5", "> 5", ">=5", ">= five", ">= 5bytes"])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match="not a target"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("target", "value", "share"),
    [
        (">= 5", 10, 2),
        (">= 5", 1, 0.2),
        ("<= 12 bytes", 6, 2),
        ("<= 12 bytes", 24, 0.5),
        ("<= 0 feeds", 0, 1),
        ("<= 0 feeds", 3, 0.25),
    ],
)
def test_a_share_is_how_many_times_better_than_the_bound_a_value_is(target, value, share):
    assert Target.parse(target).share(value) == share


@pytest.mark.parametrize(
    ("target", "met"), [(">= 2", True), (">= 2.1", False), ("<= 2", True), ("<= 1.9", False)]
)
def test_a_target_is_for_the_ratio(target, met):
    assert figure(theirs=(2, 0.5, 9), target=target).met is met


@pytest.mark.parametrize(("found", "met"), [(0, True), (1, False)])
def test_a_target_may_be_none_at_all(found, met):
    assert figure(ours=(found,), against="", target="<= 0 feeds", absolute=True).met is met


@pytest.mark.parametrize(("target", "met"), [("<= 4 ms", True), ("<= 3 ms", False)])
def test_an_absolute_target_is_for_ours(target, met):
    one = figure(theirs=(400, 100, 900), target=target, absolute=True)
    assert one.judged == (4, 1, 9)
    assert one.met is met


@pytest.mark.parametrize(
    "given", [{"ours": ()}, {"theirs": (1, 2)}, {"against": "", "target": ">= 1"}]
)
def test_figures_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match="a: "):
        figure(**given)


def test_results_have_exactly_these_keys():
    assert figure(theirs=(2, 4, 1)).as_dict() == {
        "name": "a",
        "ours": 4,
        "against": "b",
        "theirs": 2,
        "ratio": 2,
        "unit": "ms",
    }
    alone = figure(against="").as_dict()
    assert alone["theirs"] is None
    assert alone["ratio"] is None


def test_results_are_rounded_to_four_digits():
    assert rounded(123_456.7) == 123_500
    assert rounded(0.0123456) == 0.01235
    assert rounded(None) is None


def test_a_quantile_is_one_of_the_values():
    assert quantile([5], 0.99) == 5
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile(range(1, 101), 0.5) == 50
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([1, 2], 1) == 2


async def test_sides_take_turns_and_change_who_begins():
    order = []

    def side(name):
        async def turn():
            order.append(name)
            return len(order)

        return turn

    sides = {"ours": side("o"), "theirs": side("t")}
    values = await in_turns(sides, 3, Progress(), what="test")
    assert "".join(order) == "to" + "ot" + "to" + "ot"
    assert values == {"ours": (3, 6, 7), "theirs": (4, 5, 8)}


async def test_what_comes_before_a_timed_call_does_not_count():
    order = []

    async def call():
        order.append("call")

    async def before():
        order.append("before")
        await asyncio.sleep(0.05)

    times = await timed(call, 2, before)
    assert order == ["before", "call"] * 2
    assert len(times) == 2
    assert max(times) < 50
