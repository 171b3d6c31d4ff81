"""``python -m tests.streams``."""

from tests.harness.command import command_of
from tests.streams.run import STREAMS

if __name__ == "__main__":
    command_of(STREAMS).main(prog_name=f"python -m {STREAMS.name}")
