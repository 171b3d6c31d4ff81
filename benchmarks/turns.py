"""Takes turns: ours, theirs, theirs, ours, ours, theirs ..."""

import gc
import time
from collections.abc import Awaitable, Callable

from benchmarks.progress import Progress

Side = Callable[[], Awaitable[float]]
"""Does one turn's work, and returns what it measured."""


async def in_turns(
    sides: dict[str, Side], rounds: int, report: Progress, *, what: str, warm_up: bool = True
) -> dict[str, tuple[float, ...]]:
    """What each side measured, by round.

    Every second round goes through the sides backwards. Garbage is collected before each turn, and
    what is left is set aside, so that no side pays for another's. With ``warm_up`` there is one
    round more at the beginning, which does not count.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    done, total = 0, len(sides) * (rounds + warm_up)
    for number in range(-int(warm_up), rounds):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            report.turn(what, name, done, total)
            gc.collect()
            gc.freeze()
            value = await sides[name]()
            if number >= 0:
                measured[name].append(value)
            done += 1
    return {name: tuple(values) for name, values in measured.items()}


async def nothing() -> None:
    pass


async def timed(
    call: Callable[[], Awaitable[object]],
    count: int,
    before: Callable[[], Awaitable[object]] = nothing,
) -> list[float]:
    """Milliseconds that calls take, one after the other, each after ``before``, not counted."""
    times = []
    for _ in range(count):
        await before()
        begun = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - begun))
    return times
