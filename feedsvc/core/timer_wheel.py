"""A timer wheel: one task looks in ticks after many deadlines that move often."""

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """An entry of the wheel, which has a deadline."""

    due: float
    """The deadline, in seconds of the monotonic clock; it may be moved at any time."""
    closed: bool
    """True if the deadline does not matter any more."""


T = TypeVar("T", bound=Timed)


class TimerWheel(Generic[T]):
    """Fires entries when they are due, up to a tick late, again and again until they are closed.

    Moving a deadline costs nothing: when the old tick of an entry comes, the wheel puts the entry
    into its new tick.
    """

    def __init__(self, tick_seconds: float, fire: Callable[[T], None]) -> None:
        """``fire`` has to move the deadline of its entry."""
        self._tick_seconds = tick_seconds
        self._fire = fire
        self._entries: dict[int, list[T]] = {}
        """Entries by the tick in which the wheel looks at them."""
        self._next_tick = self._tick_of(time.monotonic())

    def add(self, entry: T) -> None:
        """Fire an entry from its deadline on."""
        tick = max(self._tick_of(entry.due), self._tick_of(time.monotonic()) + 1)
        self._entries.setdefault(tick, []).append(entry)

    def fire_due(self) -> None:
        """Fire the entries that are due."""
        now = self._tick_of(time.monotonic())
        while self._next_tick < now:
            # Each entry leaves the list before it fires: if one entry fails, the others still fire.
            entries = self._entries.get(self._next_tick)
            while entries:
                self._fire_if_due(entries.pop(), self._next_tick)
            self._entries.pop(self._next_tick, None)
            self._next_tick += 1

    def _fire_if_due(self, entry: T, tick: int) -> None:
        if entry.closed:
            return
        try:
            if self._tick_of(entry.due) <= tick:
                self._fire(entry)
        finally:
            self.add(entry)

    def _tick_of(self, moment: float) -> int:
        return int(moment / self._tick_seconds)
