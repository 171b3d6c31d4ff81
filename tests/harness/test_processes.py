import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.processes import ROOT, Process, ProcessDied

#: A program that starts a process, stops it, prints its pid, and waits.
PARENT = """
import sys, time
from pathlib import Path
from tests.harness.processes import Process
process = Process("sleeper", ["/bin/sleep", "60"], Path(sys.argv[1]), {})
process.launch()
while "sleep" not in Path(f"/proc/{process.pid}/comm").read_text():
    time.sleep(0.01)
process.pause()
print(process.pid, flush=True)
time.sleep(60)
"""


async def test_process_that_ends_by_itself_raises_process_died(tmp_path: Path) -> None:
    process = Process("shell", ["/bin/sh", "-c", "echo ready; exit 3"], tmp_path / "log", {})
    process.launch()
    with pytest.raises(ProcessDied, match="shell ended by itself, status 3: ready"):
        await process.wait_for_line("never logged")
    process.launch()
    assert await process.wait_for_line("ready") == "ready"
    process.kill()
    process.check()


def test_stopped_process_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the stopped process outlives its parent"
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
