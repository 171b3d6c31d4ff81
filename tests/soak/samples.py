"""Samples of what may grow, and the rule that says whether it does."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

#: Factor by which the last third may exceed the one before it.
SLACK = 1.10
#: Growth that is too little to count: in MB of memory, and in keys or entries.
NEGLIGIBLE_MB, NEGLIGIBLE_COUNT = 4.0, 300
#: The command that counts the entries of a key, by the key's type.
_LENGTH_COMMANDS = {
    "list": "LLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "hash": "HLEN",
    "stream": "XLEN",
}


@dataclass
class Series:
    """The values of one measure over the time of a run."""

    name: str
    unit: str = ""
    """MB; empty for a count."""
    values: list[float] = field(default_factory=list)

    @property
    def thirds(self) -> tuple[float, float, float]:
        """The median of each third of the values."""
        third = max(1, len(self.values) // 3)
        first, second = self.values[:third], self.values[third : 2 * third]
        return median(first), median(second or first), median(self.values[2 * third :] or first)

    @property
    def grows(self) -> bool:
        """True if the last third exceeds the one before it."""
        _, before, last = self.thirds
        negligible = NEGLIGIBLE_MB if self.unit else NEGLIGIBLE_COUNT
        return last > before * SLACK and last - before > negligible


class Samples:
    """All series of a run, which have a value for each sample."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._count = 0
        """Number of samples that have ended."""

    def add(self, values: dict[str, float], unit: str = "") -> None:
        """Add values to the present sample; a measure without a value counts as 0."""
        for name, value in values.items():
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = Series(name, unit, [0.0] * self._count)
            series.values.append(value)

    def end(self) -> None:
        """End the present sample."""
        self._count += 1
        for series in self._series.values():
            series.values += [0.0] * (self._count - len(series.values))

    @property
    def series(self) -> list[Series]:
        """All series so far."""
        return list(self._series.values())


def resident_mb(pid: int) -> float:
    """Return the megabytes of memory that a process uses."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def count_keys(redis: Any) -> dict[str, float]:
    """Return the number of keys of each kind, and of entries in the keys that a shard has once."""
    counts: Counter[str] = Counter()
    shard_keys: list[bytes] = []
    async for key in redis.scan_iter(count=1_000):
        _, _, name = key.partition(b"}")
        kind, colon, _ = name.partition(b":")
        letter = kind[:1].decode(errors="replace")
        counts[f"keys {letter}"] += 1
        if name and not colon:
            shard_keys.append(key)
    for key in shard_keys:
        key_type = (await redis.type(key)).decode()
        if key_type in _LENGTH_COMMANDS:
            letter = key.partition(b"}")[2][:1].decode()
            length = await redis.execute_command(_LENGTH_COMMANDS[key_type], key)
            counts[f"entries of {letter}"] += length
    return {name: float(count) for name, count in counts.items()}
