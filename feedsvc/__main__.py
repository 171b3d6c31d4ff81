"""``feedsvc`` and ``python -m feedsvc``."""

import os


def main() -> None:
    """Runs the command line."""
    # gRPC's own log repeats on stderr what its errors say; it is read when grpc is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from feedsvc.cli import cli  # noqa: PLC0415 - after the line above

    cli(prog_name="feedsvc")


if __name__ == "__main__":
    main()
