"""Errors of the store, and the errors that the core and an operator see in their place."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from redis.asyncio.sentinel import MasterNotFoundError
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
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedsvc.core import fitness
from feedsvc.errors import StoreUnavailable, StoreUnfit

log = logging.getLogger(__name__)

_UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError)
#: Codes of a store that refuses writes until an operator acts.
_WRITES_REFUSED_CODES = ("OOM", "MISCONF", "NOREPLICAS")
#: Out of memory, or a slot that moves or is on another node: the command works again after an
#: operator has acted.
_NOT_NOW = (
    *(OutOfMemoryError, ClusterDownError, TryAgainError, MasterDownError),
    *(MovedError, AskError),
)
#: Answers that only a replica gives.
OF_REPLICA = (ReadOnlyError, MasterDownError)


class NotPrimary(RedisConnectionError):
    """The node is a replica: close the connection and look for the primary again."""


class ForeignStore(StoreUnavailable):
    """The store is not the store that this process started with; ``reason`` is for the operator.

    This is no connection error: a new connection would not help.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("the store is not available")
        self.reason = reason


def translated(error: BaseException) -> BaseException:
    """Return the error that the core sees in place of a store's error."""
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, (*_UNAVAILABLE, ForeignStore, OSError, asyncio.CancelledError)):
        return StoreUnavailable("the store is not available")
    if isinstance(error, RedisError):
        if isinstance(error, OutOfMemoryError) or str(error).startswith(_WRITES_REFUSED_CODES):
            return StoreUnavailable("the store is not available")  # health.py logs it, once
        log.error("the store refused a command: %s", error)
        if isinstance(error, _NOT_NOW):
            return StoreUnavailable("the store is not available")
    return error


@contextlib.contextmanager
def unfit() -> Iterator[None]:
    """Raise StoreUnfit, which says what to do, in place of an error that keeps a store closed."""
    try:
        yield
    except ReadOnlyError as error:
        raise StoreUnfit(
            "the store is read-only (a replica?): give the primary's address in --redis-url"
        ) from error
    except BusyLoadingError as error:
        raise StoreUnfit("the store is still loading its data: try again in a while") from error
    except MasterNotFoundError as error:
        raise StoreUnfit(
            "no Sentinel can be reached that knows a primary of this service: are they running, "
            "and is --redis-url right?"
        ) from error
    except (*_UNAVAILABLE, OSError) as error:
        # redis-py wraps an AuthenticationError on some kinds of connection.
        if isinstance(error, AuthenticationError) or isinstance(
            error.__context__, AuthenticationError
        ):
            raise StoreUnfit(
                "the store refuses the user or password: give the right ones in --redis-url"
            ) from error
        raise StoreUnfit(
            "the store cannot be reached: is it running, and is --redis-url right?"
        ) from error
    except (MovedError, AskError, ClusterDownError) as error:
        raise StoreUnfit(fitness.ONE_NODE) from error
    except ResponseError as error:
        raise StoreUnfit(f"the store does not let us work: {error}") from error
    except RedisError as error:
        raise StoreUnfit(
            "what answers is no Redis or Valkey: give the store's address in --redis-url"
        ) from error
