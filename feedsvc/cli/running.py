"""One run of the command line: its signals, its errors in words, and its exit status."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

import click

from feedsvc.cli import cli, standard_streams
from feedsvc.cli.exit_statuses import DEFECT, INTERRUPTED, OUTPUT_FAILED, READER_LEFT, TERMINATED
from feedsvc.cli.standard_streams import OutputFailed

#: Environment variable with which a defect shows its traceback.
DEBUG_VARIABLE = "FEEDSVC_DEBUG"


def run(arguments: Sequence[str]) -> int:
    """Run a command with the arguments of the process. Return its exit status.

    Errors are printed on stderr, without a traceback. SIGTERM ends a command as Ctrl-C does:
    commands clean up.
    """
    standard_streams.replace()
    is_terminated = False

    def on_sigterm(_: int, __: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        signal.raise_signal(signal.SIGINT)

    def on_begin() -> None:
        """Have Ctrl-C and SIGTERM end the command in an orderly way, now that it is imported."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as asyncio expects
            signal.signal(signal.SIGTERM, on_sigterm)

    try:
        status = _run(arguments, on_begin)
    except KeyboardInterrupt:
        status = INTERRUPTED
    return TERMINATED if is_terminated and status == INTERRUPTED else status


def _run(  # noqa: PLR0911 - a status for each end of a command
    arguments: Sequence[str], on_begin: Callable[[], None]
) -> int:
    try:
        status = cli.main(
            _decoded(arguments), prog_name="feedsvc", standalone_mode=False, obj=on_begin
        )
        sys.stdout.flush()
    except SystemExit as error:
        return _flushed(error.code if isinstance(error.code, int) else 1)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return _flushed(error.exit_code)
    except OutputFailed as error:
        return output_failed(error)
    except OSError as error:
        if error.filename is None:
            return _defect(error)
        click.echo(f"Error: {os.fsdecode(error.filename)}: {error.strerror}", err=True)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown in one line
        return _defect(error)
    return status if isinstance(status, int) else 0


def output_failed(error: OutputFailed) -> int:
    """Say that stdout cannot be written; return the exit status.

    A pipe whose reader has ended is no error: ``feedsvc feed bob | head -1``.
    """
    if error.reader_left:
        return READER_LEFT
    click.echo(f"Error: {error}", err=True)
    return OUTPUT_FAILED


def _flushed(status: int) -> int:
    try:
        sys.stdout.flush()
    except OutputFailed as error:
        return output_failed(error)
    return status


def _defect(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE, "0") not in {"", "0"}:
        traceback.print_exception(error)
    else:
        text = " ".join(str(error).split())
        click.echo(
            f"Error: feedsvc has a defect: {type(error).__name__}: {text} "
            f"({DEBUG_VARIABLE}=1 shows the traceback)",
            err=True,
        )
    return DEFECT


def _decoded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as text. Raise UsageError if an argument is no text and names no file.

    Python decodes arguments by the locale, which may know ASCII alone: then an argument in UTF-8
    arrives as surrogates.
    """
    return [_decoded_argument(argument) for argument in arguments]


def _decoded_argument(argument: str) -> str:
    if argument.isascii() or not any("\ud800" <= character <= "\udfff" for character in argument):
        return argument
    raw = os.fsencode(argument)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        if os.path.lexists(raw):
            return argument
        shown = raw.decode(errors="backslashreplace")
        raise click.UsageError(f"the argument '{shown}' is not text in UTF-8") from None
