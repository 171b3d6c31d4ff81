"""Turns of the sides that are compared: ours, theirs, theirs, ours, ours, theirs ..."""

import gc
import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.harness.figures import quantile
from benchmarks.harness.progress import Progress

Side = Callable[[], Awaitable[float]]
"""Function that does the work of a turn, and returns the measured value."""


async def in_turns(
    sides: Mapping[str, Side], rounds: int, progress: Progress, *, title: str, warm_up: bool = True
) -> dict[str, tuple[float, ...]]:
    """Measure each side once a round, and return its values.

    Every second round goes through the sides backwards. Garbage is collected before each turn, and
    the objects that survive are set aside, so that no side pays for another side's garbage. With
    ``warm_up`` one more round comes first, which does not count.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    done, total = 0, len(sides) * (rounds + warm_up)
    for number in range(-int(warm_up), rounds):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            progress.turn(title, name, done, total)
            gc.collect()
            gc.freeze()
            value = await sides[name]()
            if number >= 0:
                measured[name].append(value)
            done += 1
    return {name: tuple(values) for name, values in measured.items()}


async def percentiles_in_turns(
    sides: Mapping[str, Callable[[], Awaitable[list[float]]]],
    rounds: int,
    progress: Progress,
    *,
    title: str,
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Measure the latencies of each side in turns. Return ``p50`` and ``p99``, each by side.

    One more round comes first, which does not count.
    """
    p99: dict[str, list[float]] = {name: [] for name in sides}

    def side(name: str) -> Side:
        async def turn() -> float:
            times = await sides[name]()
            p99[name].append(quantile(times, 0.99))
            return quantile(times, 0.5)

        return turn

    p50 = await in_turns({name: side(name) for name in sides}, rounds, progress, title=title)
    # The first value is that of the warm-up.
    return {"p50": p50, "p99": {name: tuple(values[1:]) for name, values in p99.items()}}


async def nothing() -> None:
    pass


async def timed(
    call: Callable[[], Awaitable[object]],
    count: int,
    before: Callable[[], Awaitable[object]] = nothing,
) -> list[float]:
    """Return the milliseconds of calls, one after the other, without those of ``before``."""
    times = []
    for _ in range(count):
        await before()
        begun = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - begun))
    return times
