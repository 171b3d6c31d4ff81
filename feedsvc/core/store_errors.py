"""Errors of the store, and the errors that the core and an operator see in their place."""

import asyncio
import logging

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedsvc.core.log_limits import LogLimit, Rate, counted
from feedsvc.errors import StoreUnavailable

log = logging.getLogger(__name__)

#: Errors of a store that cannot be reached or does nothing yet.
UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
#: Codes of a store that refuses writes until an operator acts.
_WRITES_REFUSED_CODES = ("MISCONF", "NOREPLICAS")
#: Code of a store that runs another program's script for too long.
_BUSY_CODE = "BUSY "
#: Out of memory, or a slot that moves or is on another node: the command works again after an
#: operator has acted.
_NOT_NOW = (
    *(OutOfMemoryError, ClusterDownError, TryAgainError, MasterDownError),
    *(MovedError, AskError),
)
#: Answers that only a replica gives.
OF_REPLICA = (ReadOnlyError, MasterDownError)
#: What a caller learns of a store that does nothing, and of one that refuses writes only.
NOT_AVAILABLE = "the store is not available: call again later"
NO_WRITES = "the store takes no writes now, but answers reads: call again later"


class NotPrimary(RedisConnectionError):
    """The node is a replica: close the connection and look for the primary again."""


class ForeignStore(StoreUnavailable):
    """The store is not the store that this process started with; ``reason`` is for the operator.

    This is no connection error: a new connection would not help.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(NOT_AVAILABLE)
        self.reason = reason


def _summary(count: int, seconds: int) -> str:
    return f"the store refused {counted(count, 'command')} in the last {seconds} s"


_refusals = LogLimit(log, _summary, Rate(1, 60.0))


def translated(error: BaseException) -> BaseException:
    """Return the error that the core sees in place of a store's error."""
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, (*UNAVAILABLE, ForeignStore, OSError, asyncio.CancelledError)):
        return StoreUnavailable(NOT_AVAILABLE)
    if isinstance(error, RedisError):
        # Of the store's states health.py logs each change.
        if is_full(error) or str(error).startswith(_WRITES_REFUSED_CODES):
            return StoreUnavailable(NO_WRITES)
        if isinstance(error, _NOT_NOW) or str(error).startswith(_BUSY_CODE):
            return StoreUnavailable(NOT_AVAILABLE)
        text = answer_text(error)
        if _refusals.admits(logging.ERROR, text):
            log.error("the store refused a command: %s", text)
    return error


def answer_text(error: BaseException) -> str:
    """Return the text of the store's answer, without arguments of the command."""
    code = getattr(error, "status_code", None)
    text = str(error).partition(", with args beginning with")[0]
    return text if code in (None, "ERR") or text.startswith(code) else f"{code} {text}"


def is_full(error: BaseException) -> bool:
    """Return whether the store has refused a write because it has reached its ``maxmemory``."""
    return isinstance(error, OutOfMemoryError) or str(error).startswith("OOM")


def is_of_password(error: BaseException) -> bool:
    """Return whether the store has refused the user or the password."""
    # redis-py wraps an AuthenticationError on some kinds of connection.
    return isinstance(error, AuthenticationError) or isinstance(
        error.__context__, AuthenticationError
    )
