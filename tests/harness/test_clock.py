import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.clock import Clock, find_library


@pytest.mark.skipif(
    find_library() is None, reason="tests/harness/install-faketime could not install libfaketime"
)
def test_clock_steps_while_its_process_runs(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    script = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clock.environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (0, -3600, -5, 0):
            clock.step(seconds)
            process.stdin.write("?\n")
            process.stdin.flush()
            process_time, monotonic = map(float, process.stdout.readline().split())
            assert process_time - time.time() == pytest.approx(seconds, abs=2)
            assert monotonic == pytest.approx(time.monotonic(), abs=2)
        process.send_signal(signal.SIGKILL)
