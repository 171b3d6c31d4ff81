"""``feedsvc`` and ``python -m feedsvc``."""

import io
import os
import sys


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="replace")
    # gRPC's own log would repeat on stderr the errors of commands. gRPC reads this variable at its
    # first import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from feedsvc.cli import cli  # noqa: PLC0415 - imports gRPC, so after the line above

    cli(prog_name="feedsvc")


if __name__ == "__main__":
    main()
