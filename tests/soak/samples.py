"""Samples of what may grow, and whether it does."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

#: By how much the last third may exceed the one before it, and what is too little to count.
SLACK, LEAST_MB, LEAST_KEYS = 1.10, 4.0, 300
_LENGTHS = {"list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}


@dataclass
class Series:
    """One thing, looked at again and again."""

    name: str
    unit: str = ""
    """MB, or empty for a number of things."""
    values: list[float] = field(default_factory=list)

    @property
    def thirds(self) -> tuple[float, float, float]:
        third = max(1, len(self.values) // 3)
        first, second = self.values[:third], self.values[third : 2 * third]
        return median(first), median(second or first), median(self.values[2 * third :] or first)

    @property
    def grows(self) -> bool:
        _, before, last = self.thirds
        least = LEAST_MB if self.unit else LEAST_KEYS
        return last > before * SLACK and last - before > least


class Samples:
    """All series of a run."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._taken = 0

    def add(self, values: dict[str, float], unit: str = "") -> None:
        """Add one look: what it does not name was not there."""
        for name, value in values.items():
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = Series(name, unit, [0.0] * self._taken)
            series.values.append(value)

    def end(self) -> None:
        """End one look."""
        self._taken += 1
        for series in self._series.values():
            series.values += [0.0] * (self._taken - len(series.values))

    @property
    def series(self) -> list[Series]:
        return list(self._series.values())


def resident_mb(pid: int) -> float:
    """The memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def keys_by_kind(redis: Any) -> dict[str, float]:
    """How many keys there are of each kind, and what those hold of which a shard has one."""
    counts: Counter[str] = Counter()
    single: list[bytes] = []
    async for name in redis.scan_iter(count=1_000):
        _, _, rest = name.partition(b"}")
        kind, colon, _ = rest.partition(b":")
        letter = kind[:1].decode(errors="replace")
        counts[f"keys {letter}"] += 1
        if rest and not colon:
            single.append(name)
    for name in single:
        kind = (await redis.type(name)).decode()
        if kind in _LENGTHS:
            letter = name.partition(b"}")[2][:1].decode()
            counts[f"entries of {letter}"] += await redis.execute_command(_LENGTHS[kind], name)
    return {name: float(count) for name, count in counts.items()}
