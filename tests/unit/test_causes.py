"""What the log says of errors that keep the store from working."""

import errno
import socket

import pytest
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from feedsvc.core import causes
from feedsvc.core.store_errors import answer_text, translated
from feedsvc.errors import StoreUnavailable


def caused_by(cause: Exception) -> Exception:
    """Return the error that redis-py raises because of an error of the system."""
    error = RedisConnectionError("Error connecting to user:s3cret@host")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (caused_by(ConnectionRefusedError(errno.ECONNREFUSED, "")), "the connection is refused"),
        (caused_by(FileNotFoundError(errno.ENOENT, "")), "the connection is refused"),
        (caused_by(OSError(errno.EHOSTUNREACH, "")), "No route to host"),
        (caused_by(socket.gaierror(-2, "")), "the name of its host cannot be resolved"),
        (caused_by(AuthenticationError("")), "it refuses the user or password"),
        (TimeoutError(), "it has not answered for 2.5 s"),
        (RedisConnectionError("Connection closed by server."), "it closes the connection"),
        (MasterNotFoundError(""), "no Sentinel that answers knows its primary"),
        (ResponseError("BUSY a script runs"), "BUSY a script runs"),
    ],
)
def test_cause_of_a_store_that_is_gone(error: Exception, text: str) -> None:
    cause = causes.of_failure(error, 2.5)
    assert cause is not None
    assert cause.text == text
    assert cause.action


def test_defect_of_the_service_is_no_state_of_the_store() -> None:
    assert causes.of_failure(ZeroDivisionError(), 0.1) is None


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        ("MISCONF Valkey is configured to save", "it cannot write to its disk (MISCONF)"),
        (
            "NOREPLICAS Not enough good replicas to write.",
            "it has fewer good replicas than its min-replicas-to-write (NOREPLICAS)",
        ),
        ("ERR no", "it refuses a write (ERR no)"),
    ],
)
def test_cause_of_a_store_that_is_read_only(refusal: str, text: str) -> None:
    assert causes.read_only(ResponseError(refusal)).text == text


def test_loading_names_the_percentage_if_it_is_known() -> None:
    assert causes.loading(BusyLoadingError("45.67")).text == "46 % done"
    assert not causes.loading(BusyLoadingError("Redis is loading")).text


def test_refused_command_is_logged_without_its_arguments() -> None:
    refusal = ResponseError("unknown command 'EVALSHA', with args beginning with: 's3cret' ")
    assert answer_text(refusal) == "unknown command 'EVALSHA'"
    denied = NoPermissionError("User x has no permissions", status_code="NOPERM")
    assert answer_text(denied) == "NOPERM User x has no permissions"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("MISCONF x", "the store takes no writes now, but answers reads: call again later"),
        ("BUSY x", "the store is not available: call again later"),
    ],
)
async def test_state_of_the_store_is_no_refused_command(
    caplog: pytest.LogCaptureFixture, answer: str, text: str
) -> None:
    error = translated(ResponseError(answer))
    assert isinstance(error, StoreUnavailable)
    assert str(error) == text
    assert not caplog.records
