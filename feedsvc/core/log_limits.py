"""Limits of the log: of messages that come in floods, the log has a few and the number of the rest.

A flood must neither fill the disk nor take the time of the process. Each kind of message has a
budget of lines, which fills up again with time. The messages beyond the budget are counted, and a
summary says their number.
"""

import asyncio
import logging
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

#: Most kinds of messages with a budget of their own, and most kinds that a summary names.
MAX_KINDS, NAMED_KINDS = 1_000, 20
#: The kind of the messages beyond ``MAX_KINDS``, and its name in summaries.
OTHER_KINDS = "others"


@dataclass(frozen=True, slots=True)
class Rate:
    """The budget of a kind of message."""

    burst: int
    """Number of lines that may come at once."""
    seconds_a_line: float
    """Seconds after which the budget has another line."""


class _Budget:
    """A budget of lines, which fills up again with time."""

    __slots__ = ("_filled_at", "_lines", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._lines = float(rate.burst)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take a line, if the budget has one."""
        self._fill(now)
        if self._lines < 1:
            return False
        self._lines -= 1
        return True

    def is_full(self, now: float) -> bool:
        self._fill(now)
        return self._lines >= self._rate.burst

    def _fill(self, now: float) -> None:
        added = (now - self._filled_at) / self._rate.seconds_a_line
        self._lines = min(self._rate.burst, self._lines + added)
        self._filled_at = now


class LogLimit:
    """The limit of one group of messages: a budget for each kind, and one summary for all kinds."""

    def __init__(
        self,
        log: logging.Logger,
        summary: Callable[[int, int], str],
        rate: Rate,
        *,
        total: Rate | None = None,
        summary_seconds: float = 60.0,
    ) -> None:
        """``summary`` makes the summary's first words of the number of messages and the seconds.

        ``rate`` is the budget of a kind, ``total`` that of all kinds together.
        """
        self._log = log
        self._summary = summary
        self._rate = rate
        self._total = _Budget(total, time.monotonic()) if total else None
        self._summary_seconds = summary_seconds
        self._budgets: dict[str, _Budget] = {}
        self._omitted: Counter[str] = Counter()
        self._omitted_since = 0.0
        self._level = logging.NOTSET
        """The highest level of the messages that were left out."""
        self._timer: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None
        _LIMITS.add(self)

    def admits(self, level: int, kind: str, name: str = "", rate: Rate | None = None) -> bool:
        """Return whether a message may be logged now; if not, count the message.

        ``name`` is what the summary calls the message, if that is not its kind. ``rate`` is the
        budget of this kind, if the kind has another budget than the others.
        """
        if not self._log.isEnabledFor(level):
            return False
        now = time.monotonic()
        name = name or kind
        budget = self._budgets.get(kind)
        if budget is None:
            if len(self._budgets) >= MAX_KINDS:
                kind = name = OTHER_KINDS
            budget = self._budgets.setdefault(kind, _Budget(rate or self._rate, now))
        if budget.take(now) and (self._total is None or self._total.take(now)):
            return True
        self._count(level, name, now)
        return False

    def _count(self, level: int, name: str, now: float) -> None:
        if not self._omitted:
            self._omitted_since = now
        is_known = name in self._omitted or len(self._omitted) < MAX_KINDS
        self._omitted[name if is_known else OTHER_KINDS] += 1
        self._level = max(self._level, level)
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer[0] is not loop:
            self._timer = loop, loop.call_later(self._summary_seconds, self.flush)

    def flush(self) -> None:
        """Log the summary, if messages were left out, and forget the kinds that are rare again."""
        if self._timer is not None:
            self._timer[1].cancel()
            self._timer = None
        now = time.monotonic()
        if self._omitted:
            seconds = max(1, round(now - self._omitted_since))
            summary = self._summary(self._omitted.total(), seconds)
            self._log.log(self._level, "%s: %s", summary, _named(self._omitted))
            self._omitted.clear()
            self._level = logging.NOTSET
        self._budgets = {
            kind: budget for kind, budget in self._budgets.items() if not budget.is_full(now)
        }

    def reset(self) -> None:
        """Log the summary, and begin anew with full budgets."""
        self.flush()
        self._budgets.clear()


def _named(counts: Counter[str]) -> str:
    """Return the counts by name, the highest first; all counts add up to the total."""
    named = counts.most_common(NAMED_KINDS)
    remaining = counts.total() - sum(count for _, count in named)
    if remaining:
        named.append((f"{len(counts) - NAMED_KINDS} other kinds", remaining))
    return ", ".join(f"{name} {count:,}" for name, count in named)


_LIMITS: weakref.WeakSet[LogLimit] = weakref.WeakSet()


def reset_all() -> None:
    """Log all summaries that are due later: the process, or its server, stops."""
    for limit in list(_LIMITS):
        limit.reset()


def counted(count: int, noun: str) -> str:
    """Return the first words of a summary: a number and a noun."""
    return f"{count:,} more {noun}{'' if count == 1 else 's'}"


def _failures_summary(count: int, seconds: int) -> str:
    return f"{counted(count, 'failure')} in the last {seconds} s"


_failures = LogLimit(logging.getLogger(__name__), _failures_summary, Rate(2, 60.0))


def log_failure(log: logging.Logger, message: str, error: Exception) -> None:
    """Log the failure of background work, with its traceback: a few times a minute.

    ``message`` must not differ from failure to failure.
    """
    kind = f"{message} ({type(error).__name__})"
    if _failures.admits(logging.ERROR, f"{log.name} {kind}", kind):
        log.error("%s", message, exc_info=error)
