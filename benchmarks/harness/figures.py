"""Figures: what was measured in turns, its summary, and its target."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

#: Value from which `short` shows no fraction: it has three digits before the point.
WHOLE = 100


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure should keep."""

    bound: float
    at_least: bool
    """True if the bound is the least allowed value; False if it is the greatest."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read ``">= 5"`` or ``"<= 12 bytes"``; None for an empty text. Raise ValueError."""
        if not text:
            return None
        match = re.fullmatch(r"(>=|<=) (\d+(?:\.\d+)?)(?: .+)?", text)
        if match is None:
            raise ValueError(f"not a target: {text!r}")
        return cls(float(match[2]), match[1] == ">=")

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def share(self, value: float) -> float:
        """Return how many times better than the bound a value is: 1 or more if it keeps the bound.

        For a bound of 0, add 1 to the bound and to the value.
        """
        if self.at_least:
            return value / self.bound
        added = 1 if self.bound == 0 else 0
        return (self.bound + added) / (value + added)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured quantity, once a round, and its alternative, measured in turns with it."""

    name: str
    unit: str
    """Unit of ``ours`` and ``theirs``: ``deliveries/s``, ``ms``, ``bytes``."""
    against: str
    """The alternative, in words; empty if there is none."""
    ours: tuple[float, ...]
    """The service's value of each round."""
    theirs: tuple[float, ...] = ()
    """The alternative's value of each round; empty if there is none."""
    target: str = ""
    """``>= 5`` or ``<= 12 bytes``; empty if the figure is only reported."""
    absolute: bool = False
    """True if the target is for ``ours``; False if it is for the ratio."""

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"{self.name}: nothing was measured")
        if self.theirs and len(self.theirs) != len(self.ours):
            raise ValueError(f"{self.name}: rounds without a counterpart")
        if Target.parse(self.target) and not self.absolute and not self.theirs:
            raise ValueError(f"{self.name}: a target for the ratio, but no alternative")

    @property
    def ours_median(self) -> float:
        return median(self.ours)

    @property
    def theirs_median(self) -> float | None:
        return median(self.theirs) if self.theirs else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """``ours`` to ``theirs``, by round: what disturbs a round disturbs both."""
        return tuple(our / their for our, their in zip(self.ours, self.theirs, strict=False))

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios, not the ratio of the medians."""
        return median(self.ratios) if self.theirs else None

    @property
    def judged(self) -> tuple[float, ...]:
        """The values that the target is for, by round."""
        return self.ours if self.absolute else self.ratios

    @property
    def bound(self) -> Target | None:
        return Target.parse(self.target)

    @property
    def met(self) -> bool | None:
        """True if the median keeps the target; None without a target."""
        bound = self.bound
        return None if bound is None else bound.met(median(self.judged))

    def as_dict(self) -> dict[str, Any]:
        """Return all that the tables show, ready for JSON, to four digits."""
        return {
            "name": self.name,
            "ours": rounded(self.ours_median),
            "against": self.against,
            "theirs": rounded(self.theirs_median),
            "ratio": rounded(self.ratio),
            "unit": self.unit,
            "target": self.target,
            "absolute": self.absolute,
            "met": self.met,
        }


def rounded(value: float | None) -> float | None:
    """Round to four significant digits: more would be noise."""
    return None if value is None else float(f"{value:.4g}")


def short(value: float) -> str:
    """Return three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= WHOLE else f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values does not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
