"""Tests run in the background of a shell too."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: A test that interrupts a command which it started.
INTERRUPTING = "tests/cli/test_fanout_status.py::test_ctrl_c_ends_watching"
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", sys.argv[1]])
"""


def test_tests_can_interrupt_commands_though_they_were_started_with_interrupts_ignored() -> None:
    """A shell starts background commands with SIGINT ignored, and their children inherit that."""
    done = subprocess.run(
        [sys.executable, "-c", IGNORING, INTERRUPTING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
