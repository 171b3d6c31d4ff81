"""Clocks that can be stepped while their processes run, by libfaketime.

``install-faketime`` brings it. Without it clocks stay as they are, but not in CI.

The wheel's Valkey and grpcio work under it. Debian's redis-server 7 does not: its allocator asks
for the time before libfaketime is ready.
"""

import os
import sys
from pathlib import Path

#: Where Debian and Ubuntu put it, and where `install-faketime` unpacks it.
PLACES = ("/usr/lib", f"{sys.prefix}/faketime/usr/lib")


def library() -> Path | None:
    """The library, or None. Raises FileNotFoundError in CI."""
    for place in PLACES:
        for found in Path(place).glob("*/faketime/libfaketimeMT.so.1"):
            return found
    if os.environ.get("CI") == "true":
        raise FileNotFoundError("clocks need libfaketime: run tests/faults/install-faketime")
    return None


class Clock:
    """The clock of one process, which reads from a file by how much it is wrong."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment: dict[str, str] = {}
        if found := library():
            self.environment = {
                "LD_PRELOAD": str(found),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.step(0)

    def step(self, seconds: int) -> bool:
        """Sets the clock to so many seconds from the real time; says whether that can be done."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)  # whole at any moment
        return bool(self.environment)
