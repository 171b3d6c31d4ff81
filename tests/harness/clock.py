"""Clocks that a test can step while their processes run, by libfaketime.

``install-faketime`` installs the library. Without it clocks cannot be stepped; CI fails then.

The wheel's Valkey and grpcio work under libfaketime. Debian's redis-server 7 does not: its
allocator asks for the time before the library is ready.
"""

import os
import sys
from pathlib import Path

#: Folders in which Debian and Ubuntu, and `install-faketime`, put the library.
FOLDERS = ("/usr/lib", f"{sys.prefix}/faketime/usr/lib")


def find_library() -> Path | None:
    """Return the path of libfaketime, or None. Raise FileNotFoundError in CI if it is missing."""
    for folder in FOLDERS:
        for library in Path(folder).glob("*/faketime/libfaketimeMT.so.1"):
            return library
    if os.environ.get("CI") == "true":
        raise FileNotFoundError("clocks need libfaketime: run tests/harness/install-faketime")
    return None


class Clock:
    """The clock of one process, which reads its error from a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment: dict[str, str] = {}
        if library := find_library():
            self.environment = {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.step(0)

    def step(self, seconds: int) -> bool:
        """Set the clock to a number of seconds from the real time; return whether that works."""
        new_file = self._file.with_suffix(".new")
        new_file.write_text(f"{seconds:+d}\n")
        new_file.replace(self._file)  # a reader never sees a half-written file
        return bool(self.environment)
