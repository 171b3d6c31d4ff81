"""Figures: what was measured in turns, what it comes to, and what it should come to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure should keep."""

    bound: float
    at_least: bool
    """Whether the bound is the least; else it is the most."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Of ``">= 5"`` or ``"<= 12 bytes"``; None of an empty text. Raises ValueError."""
        if not text:
            return None
        found = re.fullmatch(r"(>=|<=) (\d+(?:\.\d+)?)(?: .+)?", text)
        if found is None:
            raise ValueError(f"not a target: {text!r}")
        return cls(float(found[2]), found[1] == ">=")

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def share(self, value: float) -> float:
        """How many times better than the bound a value is: 1 and more if it keeps it.

        Of things that there should be none of, one more is counted on both sides.
        """
        if self.at_least:
            return value / self.bound
        more = 1 if self.bound == 0 else 0
        return (self.bound + more) / (value + more)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, once a round, and its alternative, in turns with it."""

    name: str
    unit: str
    """Of ``ours`` and ``theirs``: ``deliveries/s``, ``ms``, ``bytes``."""
    against: str
    """The alternative, in words; empty if there is none."""
    ours: tuple[float, ...]
    """One value a round."""
    theirs: tuple[float, ...] = ()
    """The alternative's, of the same rounds; empty if there is none."""
    target: str = ""
    """``>= 5`` or ``<= 12 bytes``; empty: the figure is only reported."""
    absolute: bool = False
    """Whether the target is for ``ours``; else it is for the ratio."""

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"{self.name}: nothing was measured")
        if self.theirs and len(self.theirs) != len(self.ours):
            raise ValueError(f"{self.name}: rounds without a counterpart")
        if Target.parse(self.target) and not self.absolute and not self.theirs:
            raise ValueError(f"{self.name}: a target for a ratio that there is not")

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
        """What the target is for, by round."""
        return self.ours if self.absolute else self.ratios

    @property
    def bound(self) -> Target | None:
        return Target.parse(self.target)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without one."""
        bound = self.bound
        return None if bound is None else bound.met(median(self.judged))

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, to four digits."""
        return {
            "name": self.name,
            "ours": rounded(self.ours_median),
            "against": self.against,
            "theirs": rounded(self.theirs_median),
            "ratio": rounded(self.ratio),
            "unit": self.unit,
        }


def rounded(value: float | None) -> float | None:
    """To four significant digits: more would be noise."""
    return None if value is None else float(f"{value:.4g}")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
