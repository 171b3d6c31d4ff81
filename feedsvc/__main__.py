"""``feedsvc`` and ``python -m feedsvc``."""

import io
import os
import sys


def main() -> None:
    """Runs the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="replace")
    # gRPC's own log repeats on stderr what its errors say; it is read when grpc is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from feedsvc.cli import cli  # noqa: PLC0415 - after the line above

    cli(prog_name="feedsvc")


if __name__ == "__main__":
    main()
