"""Processes: servers that a scenario starts, and what a process uses of the machine."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def server_process(module: str, *arguments: str) -> AsyncIterator[tuple[int, int]]:
    """Run a module of `benchmarks.servers`, and yield its process id and its port.

    The server ends with its standard input. Raise RuntimeError if it does not start.
    """
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        # Ctrl-C on the terminal is for this process, which then ends the servers.
        start_new_session=True,
    )
    stdin, stdout = server.stdin, server.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("the process has no pipes")
    try:
        port = await stdout.readline()
        if not port:
            raise RuntimeError(f"{module} did not start")
        yield server.pid, int(port)
    finally:
        stdin.close()
        await server.wait()


class CpuMeter:
    """CPU seconds that processes use from now on, over all their threads."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """``pids`` are process ids by the name of the process."""
        self._pids = pids
        self._before = self._seconds()

    def used(self) -> dict[str, float]:
        """Return the seconds of each process by its name; none where there is no /proc."""
        return {
            name: seconds - self._before[name]
            for name, seconds in self._seconds().items()
            if name in self._before
        }

    def _seconds(self) -> dict[str, float]:
        seconds_of = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        return {name: seconds for name, seconds in seconds_of.items() if seconds is not None}


def cpu_seconds(pid: int) -> float | None:
    """Return the seconds that a process has used of all processors; None without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    # The name, in parentheses, may hold any character. The field after it, the state, is field 3.
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process; None without /proc."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except FileNotFoundError:
        return None
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
