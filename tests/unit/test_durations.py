"""Durations on the command line: what they mean, how they are printed, what is refused."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedsvc.cli.durations import DURATION, Duration, in_units, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("0.001ms", 1e-6),
        ("10s", 10),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h30m", 5_400),
        ("30d", 2_592_000),
        ("1d2h3m4s5ms", 93_784.005),
        ("1m5ms", 60.005),
        ("10", 10),
        ("0.25", 0.25),
        ("0", 0),
        (" 10s ", 10),
    ],
)
def test_a_duration_is_a_number_of_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "text", ["10x", "", "s", "-5s", "1e3", "nan", "30m1h", "1h 30m", "10S", "1,000", "٣s", "1s1s"]
)
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        DURATION.convert(text, None, None)
    assert refusal.value.message == (
        f"{text!r} is not a duration: write a number with a unit, such as 500ms, 10s, 5m, 12h or "
        "30d"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2h", "must be 100ms to 1h, not 2h"),
        ("0.05", "must be 100ms to 1h, not 0.05"),
        ("9" * 400 + "d", "must be 100ms to 1h, not " + "9" * 50),
    ],
)
def test_a_duration_out_of_bounds_is_refused_with_units(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as refusal:
        Duration(0.1, 3_600).convert(text, None, None)
    assert refusal.value.message == message


def test_bounds_themselves_are_accepted() -> None:
    assert Duration(0.1, 3_600).convert("100ms", None, None) == 0.1
    assert Duration(0.1, 3_600).convert("1h", None, None) == 3_600


def test_a_part_of_a_second_is_refused_where_seconds_are_whole() -> None:
    whole = Duration(1, 600, whole=True)
    with pytest.raises(click.BadParameter) as refusal:
        whole.convert("1500ms", None, None)
    assert refusal.value.message == "must be a whole number of seconds, not 1500ms"
    assert isinstance(whole.convert("2000ms", None, None), int)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2_592_000, "30d"),
        (86_400, "1d"),
        (5_400, "1h30m"),
        (90, "1m30s"),
        (60.0, "1m"),
        (10, "10s"),
        (1.5, "1s500ms"),
        (0.01, "10ms"),
        (1e-6, "0.001ms"),
        (0, "0s"),
        (100 * 86_400, "100d"),
    ],
)
def test_seconds_are_printed_with_units(seconds: float, text: str) -> None:
    assert in_units(seconds) == text


@given(st.integers(0, 366 * 86_400_000))
def test_a_printed_duration_has_the_same_seconds_when_it_is_read(milliseconds: int) -> None:
    assert parse_duration(in_units(milliseconds / 1000)) == milliseconds / 1000


def test_help_names_the_value_duration() -> None:
    @click.command()
    @click.option("--timeout", type=DURATION, default="30s", show_default=True)
    def command(timeout: float) -> None: ...

    text = command.get_help(click.Context(command))
    assert "--timeout DURATION  [default: 30s]" in text
