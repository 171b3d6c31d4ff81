"""The log of failed calls: a line for each; of a flood a few lines, and the number of the rest.

A line has the method, the status code and the reason, which the caller gets too, and says which
call it was: by the peer, the duration and the request id. It has nothing else of the request.
"""

import json
import logging
import time
from collections import Counter
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc
from google.rpc.status_pb2 import Status

from feedsvc.core.log_limits import LogLimit, Rate, counted
from feedsvc.error_mapping import refusal_of, status_of
from feedsvc.errors import Draining, StoreUnavailable, StreamExpired

log = logging.getLogger(__name__)

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The request id of a failed call; it is set only when the call fails."""

#: Budget of the calls that fail alike, and of all calls: at most a few megabytes an hour.
CALLS, ALL_CALLS = Rate(20, 1.0), Rate(100, 0.1)
#: Budget of the calls that fail because of the store. The heartbeat logs the store's state, so
#: these calls are examples.
STORE_CALLS = Rate(3, 60.0)
STORE_REASON = "STORE_UNAVAILABLE"
#: Budget of the calls that fail by the same defect: each has a traceback of dozens of lines.
DEFECTS = Rate(2, 60.0)
#: Seconds between a failed call that the log leaves out and the summary of such calls.
SUMMARY_SECONDS = 10.0
#: Normal ends of calls, which every client repeats: the log has none of them.
NORMAL_ENDS = (Draining, StreamExpired)
#: Levels of the codes that ask the operator to act. Other codes are the caller's matter.
LEVELS = {
    grpc.StatusCode.INTERNAL: logging.ERROR,
    grpc.StatusCode.UNAVAILABLE: logging.WARNING,
    grpc.StatusCode.RESOURCE_EXHAUSTED: logging.WARNING,
}


def _summary(count: int, seconds: int) -> str:
    return f"{counted(count, 'failed call')} in the last {seconds} s"


_limit = LogLimit(log, _summary, CALLS, total=ALL_CALLS, summary_seconds=SUMMARY_SECONDS)


def is_defect(error: Exception) -> bool:
    """Return whether an error is a defect of the service."""
    return refusal_of(error)[0] is grpc.StatusCode.INTERNAL


class Call:
    """A call as the log names it."""

    __slots__ = ("_began", "_context", "_method")

    def __init__(self, method: str, context: Any, began: float | None = None) -> None:
        """Name a call of ``method``, such as ``GetFeed``.

        The call began at a monotonic time, or begins now.
        """
        self._method = method
        self._context = context
        self._began = time.monotonic() if began is None else began

    def log_failure(self, error: Exception) -> None:
        """Log the error that ended the call."""
        self._log(error, str(error))

    def log_failed_subscription(self, error: Exception) -> None:
        """Log the error that ended a subscription of the call, which goes on."""
        self._log(error, f"a subscription: {error}")

    def _log(self, error: Exception, message: str) -> None:
        if isinstance(error, NORMAL_ENDS):
            return
        code, reason = refusal_of(error)
        level = LEVELS.get(code, logging.INFO)
        kind = name = f"{self._method} {code.name} {reason}"
        traceback, rate = None, CALLS
        if code is grpc.StatusCode.INTERNAL:
            # The text may quote the caller's content; the traceback, which has it, is needed.
            message, traceback, rate = f"a defect, {type(error).__name__}", error, DEFECTS
            kind = name = f"{name} {type(error).__name__}"
        elif isinstance(error, StoreUnavailable):
            kind, rate = STORE_REASON, STORE_CALLS
        if _limit.admits(level, kind, name, rate):
            head = f"{self._method} {code.name} {reason}"
            log.log(level, "%s: %s (%s)", head, message, self._described(), exc_info=traceback)

    def log_failed_entries(self, entries: "FailedEntries", count: int) -> None:
        """Log that some of the ``count`` entries of a batch have failed."""
        failed = entries.counts.total()
        if not failed:
            return
        level = max(LEVELS.get(code, logging.INFO) for code, _ in entries.counts)
        names = sorted(f"{code.name} {reason}" for code, reason in entries.counts)
        kind = name = f"{self._method} entries {' + '.join(names)}"
        rate = CALLS
        if entries.defect is not None:
            rate = DEFECTS
        elif {reason for _, reason in entries.counts} == {STORE_REASON}:
            kind, rate = STORE_REASON, STORE_CALLS
        if _limit.admits(level, kind, name, rate):
            counts = ", ".join(
                f"{code.name} {reason} {number}"
                for (code, reason), number in entries.counts.most_common()
            )
            message = f"{failed} of {count} entries failed: {counts}"
            log.log(
                *(level, "%s: %s (%s)", self._method, message, self._described()),
                exc_info=entries.defect,
            )

    def _described(self) -> str:
        """Return the words that say which call it was."""
        milliseconds = (time.monotonic() - self._began) * 1_000
        words = [f"peer {unquote(self._context.peer())}", f"{milliseconds:.1f} ms"]
        if request_id := REQUEST_ID.get():
            words.append(f"request_id {json.dumps(request_id)}")
        return ", ".join(words)


class FailedEntries:
    """The failed entries of one batch, for the log."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[grpc.StatusCode, str]] = Counter()
        """Number of failed entries by code and reason."""
        self.defect: Exception | None = None
        """The first defect among the errors."""

    def status_of(self, error: Exception, max_violations: int | None = None) -> Status:
        """Count the error of an entry, and return its status: see ``error_mapping.status_of``."""
        if not isinstance(error, NORMAL_ENDS):
            self.counts[refusal_of(error)] += 1
        if self.defect is None and is_defect(error):
            self.defect = error
        return status_of(error, max_violations)
