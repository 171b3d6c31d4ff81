"""The store's clock as this process knows it: the reference for the ids of activities."""

import time


class Clock:
    """The store's time, by an offset to this process's monotonic clock.

    A process whose own clock is wrong, or is stepped, gives out the same ids as every other.
    """

    def __init__(self) -> None:
        # This machine's time serves until the store has answered with its own.
        self._offset = time.time() - time.monotonic()

    def learn(self, store_us: int, asked: float, answered: float) -> None:
        """Take the store's Unix time in microseconds, read between two monotonic times.

        The known offset stays if the answer agrees with it; otherwise the nearest offset that
        agrees takes its place.
        """
        seconds = store_us / 1_000_000
        self._offset = min(max(self._offset, seconds - answered), seconds - asked)

    def now_ms(self) -> int:
        """Return the store's Unix time in milliseconds."""
        return int((time.monotonic() + self._offset) * 1000)
