"""The arithmetic and the tables of the benchmarks, on numbers that are easy to check by hand."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.harness import markdown, results
from benchmarks.harness.figures import Figure, Target, quantile, rounded, short
from benchmarks.harness.progress import Progress
from benchmarks.harness.turns import in_turns, timed

ROOT = Path(__file__).resolve().parents[2]


def figure(**given) -> Figure:
    return Figure(**{"name": "a", "unit": "ms", "against": "b", "ours": (4, 1, 9)} | given)


def test_medians_are_those_of_the_rounds():
    measured = figure(theirs=(2, 4, 3))
    assert measured.ours_median == 4
    assert measured.theirs_median == 3


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians():
    measured = figure(theirs=(2, 4, 1))
    assert measured.ratios == (2, 0.25, 9)
    assert measured.ratio == 2


def test_without_an_alternative_there_is_no_ratio():
    measured = figure(against="")
    assert measured.theirs_median is None
    assert measured.ratio is None
    assert measured.ratios == ()
    assert measured.met is None


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (">= 5", Target(5, at_least=True)),
        ("<= 1.3", Target(1.3, at_least=False)),
        ("<= 12 bytes", Target(12, at_least=False)),
        ("", None),
    ],
)
def test_a_target_is_parsed(text, target):
    assert Target.parse(text) == target


@pytest.mark.parametrize("text", ["5", "> 5", ">=5", ">= five", ">= 5bytes"])
def test_a_text_that_is_no_target_is_refused(text):
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
def test_a_target_is_for_the_ratio_by_default(target, met):
    assert figure(theirs=(2, 0.5, 9), target=target).met is met


@pytest.mark.parametrize(("count", "met"), [(0, True), (1, False)])
def test_a_target_may_be_zero(count, met):
    assert figure(ours=(count,), against="", target="<= 0 feeds", absolute=True).met is met


@pytest.mark.parametrize(("target", "met"), [("<= 4 ms", True), ("<= 3 ms", False)])
def test_an_absolute_target_is_for_ours(target, met):
    measured = figure(theirs=(400, 100, 900), target=target, absolute=True)
    assert measured.judged == (4, 1, 9)
    assert measured.met is met


@pytest.mark.parametrize(
    "given", [{"ours": ()}, {"theirs": (1, 2)}, {"against": "", "target": ">= 1"}]
)
def test_a_figure_that_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match="a: "):
        figure(**given)


def test_a_record_has_all_that_the_tables_show():
    assert figure(theirs=(2, 4, 1)).as_dict() == {
        "name": "a",
        "ours": 4,
        "against": "b",
        "theirs": 2,
        "ratio": 2,
        "unit": "ms",
        "target": "",
        "absolute": False,
        "met": None,
    }
    alone = figure(against="").as_dict()
    assert alone["theirs"] is None
    assert alone["ratio"] is None
    judged = figure(target="<= 3 ms", absolute=True).as_dict()
    assert (judged["target"], judged["absolute"], judged["met"]) == ("<= 3 ms", True, False)


def test_values_of_a_record_are_rounded_to_four_digits():
    assert rounded(123_456.7) == 123_500
    assert rounded(0.0123456) == 0.01235
    assert rounded(None) is None


def test_a_quantile_is_one_of_the_values():
    assert quantile([5], 0.99) == 5
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile(range(1, 101), 0.5) == 50
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([1, 2], 1) == 2


@pytest.mark.parametrize(
    ("value", "text"), [(0.6755, "0.675"), (5.883, "5.88"), (99.94, "99.9"), (77130, "77,130")]
)
def test_a_short_number_has_three_digits_or_all_before_the_point(value, text):
    assert short(value) == text


# Tables.

PAGE = """\
before
<!-- begin: generated table fanout -->
old
<!-- end -->
between
<!-- begin: generated table missed -->
<!-- end -->
after
"""


def test_regions_get_the_tables_that_they_name_and_other_lines_stay(tmp_path):
    good = figure(name="good", theirs=(2, 4, 3), target="<= 4")
    bad = figure(name="bad", against="", ours=(1675,), target="<= 0 ms", absolute=True)
    results.write({"fanout": [good, bad]}, tmp_path / "results.json")
    text = markdown.with_tables(PAGE, results.read(tmp_path / "results.json"))
    missed = "| bad | 1,675 ms |  |  |  | <= 0 ms **missed** |\n"
    assert text == (
        "before\n<!-- begin: generated table fanout -->\n"
        f"{markdown.HEAD}| good | 4 ms | b | 3 | 2 | <= 4 ✓ |\n{missed}<!-- end -->\n"
        "between\n<!-- begin: generated table missed -->\n"
        f"{markdown.HEAD}{missed}<!-- end -->\nafter\n"
    )
    assert markdown.with_tables(text, results.read(tmp_path / "results.json")) == text


@pytest.mark.parametrize("scenario", ["memory", "missed"])
def test_a_region_without_figures_or_figures_without_a_region_are_refused(scenario):
    with pytest.raises(ValueError, match="fanout"):
        markdown.with_tables(PAGE, [{"scenario": scenario} | figure().as_dict()])


def test_the_tables_of_the_documentation_are_current():
    text = (ROOT / "docs" / "performance.md").read_text()
    assert markdown.with_tables(text, results.read(ROOT / "benchmarks" / "results.json")) == text


# Turns.


async def test_sides_take_turns_and_every_second_round_is_reversed():
    order = []

    def side(name):
        async def turn():
            order.append(name)
            return len(order)

        return turn

    sides = {"ours": side("o"), "theirs": side("t")}
    values = await in_turns(sides, 3, Progress(), title="test")
    assert "".join(order) == "to" + "ot" + "to" + "ot"
    assert values == {"ours": (3, 6, 7), "theirs": (4, 5, 8)}


async def test_the_time_before_a_timed_call_does_not_count():
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
