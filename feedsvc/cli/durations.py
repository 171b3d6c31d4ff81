"""Durations on the command line: ``250ms``, ``10s``, ``5m``, ``1h30m``, ``30d``."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

#: Units, longest first, and the milliseconds of each.
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_BARE = re.compile(_NUMBER)
#: Each unit at most once, longest first.
_WITH_UNITS = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS))
#: Greatest duration in seconds that a type without a bound of its own accepts.
MAX_SECONDS = 366 * 86_400

if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    # click's types have no parameters before click 8.4.
    _ParamType = click.ParamType


def parse_duration(text: str) -> float:
    """Return the seconds of a duration with units, or of a bare number.

    Raise ValueError if the text is not a duration.
    """
    text = text.strip()
    if _BARE.fullmatch(text):
        return float(Decimal(text))
    match = _WITH_UNITS.fullmatch(text)
    if match is None or not text:
        raise ValueError(
            f"{text!r} is not a duration: write a number with a unit, such as 500ms, 10s, 5m, 12h "
            "or 30d"
        )
    pairs = zip(match.groups(), _UNITS.values(), strict=True)
    return float(sum(Decimal(number) * unit for number, unit in pairs if number) / 1000)


def in_units(seconds: float) -> str:
    """Return the duration with units: ``30d`` for 2592000, ``1m30s`` for 90."""
    milliseconds = Decimal(str(seconds)) * 1000
    if not milliseconds:
        return "0s"
    parts = []
    for unit, size in _UNITS.items():
        count, milliseconds = divmod(milliseconds, size)
        if unit == "ms":
            count += milliseconds
        if count:
            parts.append(f"{count.normalize():f}{unit}")
    return "".join(parts)


class Duration(_ParamType):
    """A type of option: seconds from ``low`` to ``high``, written as a duration.

    With ``whole`` the value is an int, and a part of a second is refused.
    """

    name = "duration"

    def __init__(self, low: float = 0, high: float = MAX_SECONDS, *, whole: bool = False) -> None:
        self.low, self.high, self.whole = low, high, whole

    @property
    def range_text(self) -> str:
        """The bounds with units, such as ``1s to 5m``."""
        return f"{in_units(self.low)} to {in_units(self.high)}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds of ``value``, a text or a number of seconds."""
        try:
            seconds = parse_duration(value) if isinstance(value, str) else float(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not self.low <= seconds <= self.high:
            self.fail(f"must be {self.range_text}, not {value!s:.50}", param, ctx)
        if self.whole and not seconds.is_integer():
            self.fail(f"must be a whole number of seconds, not {value!s:.50}", param, ctx)
        return int(seconds) if self.whole else seconds

    def __repr__(self) -> str:
        return f"DURATION({self.range_text})"


#: Any duration of at most 366 days.
DURATION = Duration()
