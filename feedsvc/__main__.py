"""``feedsvc`` and ``python -m feedsvc``."""

# Not `signal`, which first imports `enum`: long enough for a Ctrl-C to come in between.
import _signal  # type: ignore[import-not-found]
import os
import sys


def main() -> None:
    """Run the command line and exit with its status."""
    # Python's own handler would raise KeyboardInterrupt in the middle of an import, and show where.
    # While modules are imported, and while the interpreter exits, Ctrl-C just ends the process.
    _let_ctrl_c_end_the_process()
    # gRPC's own log would repeat on stderr the errors of commands. gRPC reads this variable at its
    # first import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from feedsvc.cli.running import run  # noqa: PLC0415 - imports much, so after the lines above

    status = run(sys.argv[1:])
    _let_ctrl_c_end_the_process()
    sys.exit(status)


def _let_ctrl_c_end_the_process() -> None:
    # A shell starts background jobs with SIGINT ignored, which stays so.
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


if __name__ == "__main__":
    main()
