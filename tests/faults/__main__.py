"""``python -m tests.faults``."""

from tests.faults.run import FAULTS
from tests.harness.command import command_of

if __name__ == "__main__":
    command_of(FAULTS).main(prog_name=f"python -m {FAULTS.name}")
