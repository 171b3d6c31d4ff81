"""Causes: what the log says of the states of the store, and what an operator can do."""

import errno
import os
import socket
from dataclasses import dataclass

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedsvc.core.store_errors import answer_text, is_of_password
from feedsvc.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a state of the store, and what an operator can do."""

    text: str = ""
    action: str = ""


NO_CAUSE = Cause()
REPLICA = Cause(
    action="Promote a node, or start this process with the primary's address in --redis-url"
)


def full(used: int, limit: int) -> Cause:
    """Return the cause of a store that is full. ``used`` and ``limit`` are bytes."""
    return Cause(
        f"it uses {_megabytes(used)} of its maxmemory, {_megabytes(limit)}",
        "Raise maxmemory, or store less",
    )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def read_only(refusal: Exception) -> Cause:
    """Return the cause of a store that refuses writes by an answer other than that it is full."""
    text = answer_text(refusal)
    match text.partition(" ")[0]:
        case "MISCONF":
            return Cause(
                "it cannot write to its disk (MISCONF)",
                "Free or repair the disk: the store's own log names the error",
            )
        case "NOREPLICAS":
            return Cause(
                "it has fewer good replicas than its min-replicas-to-write (NOREPLICAS)",
                "Repair the replicas, or lower min-replicas-to-write",
            )
        case _:
            return Cause(
                f"it refuses a write ({text})", "Repair the store, or the rights of its user"
            )


def loading(error: BusyLoadingError) -> Cause:
    """Return the cause of a store that loads; the text of the error is the percentage, if known."""
    percent = str(error)
    is_known = percent.replace(".", "", 1).isdecimal()
    return Cause(f"{float(percent):.0f} % done" if is_known else "")


def slow(seconds: float) -> Cause:
    """Return the cause of a store whose last check took so many seconds."""
    return Cause(
        f"it took {seconds:.1f} s for the last check",
        "See SLOWLOG, disk and processor of the store, the network, and the load of this process",
    )


def of_failure(error: BaseException, seconds: float) -> Cause | None:
    """Return why a store is gone that failed a check after so many seconds; None for a defect."""
    if isinstance(error, MasterNotFoundError):
        return Cause("no Sentinel that answers knows its primary", "Repair the Sentinels")
    if is_of_password(error):
        return Cause("it refuses the user or password", "Give the right ones in --redis-url")
    if isinstance(error, ResponseError):
        return Cause(answer_text(error), "See the store's own log")
    return _of_connection(error) or _of_silence(error, seconds)


def _of_connection(error: BaseException) -> Cause | None:
    """Return the cause that the system gave for a connection that failed, if it gave any."""
    link: BaseException | None = error
    while link is not None:
        match link:
            case socket.gaierror():
                return Cause("the name of its host cannot be resolved", "Repair the name service")
            case OSError(errno=errno.ECONNREFUSED | errno.ENOENT):
                return Cause("the connection is refused", "Start the store")
            case OSError(errno=int(number)) if number != errno.ETIMEDOUT:
                return Cause(os.strerror(number), "Repair the network")
        link = link.__cause__ or link.__context__
    return None


def _of_silence(error: BaseException, seconds: float) -> Cause | None:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return Cause(
            f"it has not answered for {seconds:.1f} s", "Look at the store and at the network"
        )
    if isinstance(error, RedisConnectionError):
        return Cause("it closes the connection", "See the store's own log")
    if isinstance(error, RedisError | OSError | StoreUnavailable):
        return Cause(f"{type(error).__name__}: {error}", "See the store's own log")
    return None
