"""Tests run wherever they are started from."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: It interrupts a command that it has started.
INTERRUPTING = "tests/cli/test_fanout_status.py::test_ctrl_c_ends_watching"
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", sys.argv[1]])
"""


def test_tests_interrupt_what_they_start_though_they_ignore_interrupts() -> None:
    """As in the background of a shell."""
    ran = subprocess.run(
        [sys.executable, "-c", IGNORING, INTERRUPTING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
