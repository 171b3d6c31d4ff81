"""A server process that a run kills, stops and starts again."""

import asyncio
import time

import grpc.aio
from activityfeed import FeedClient
from activityfeed.client import OWN_CONNECTION

from tests.harness.clock import Clock
from tests.harness.processes import LOOK_SECONDS, START_SECONDS, Process, ProcessDied


class Server:
    """A server process and a client of it."""

    def __init__(self, process: Process, clock: Clock, port: int) -> None:
        self.process = process
        self.clock = clock
        self.client: FeedClient | None = None
        """None while the server does not serve."""
        self.port = port
        self.kills = 0
        """Number of times that the server was killed, and not asked to stop."""
        self.is_stopping = False
        """True from the request to stop until the process has ended."""
        self.channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        """Start the server, again and again while the store is down."""
        await start_until_ready(self.process, "serving on")
        # Without the retries of our own client: the lanes retry themselves, and count the failures.
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=[OWN_CONNECTION])
        self.channels.append(channel)
        self.client = FeedClient(channel)

    def kill(self) -> None:
        self.kills += 1
        self.client = None
        self.process.kill()

    async def stop(self) -> None:
        """Ask the server to stop, and wait. Raise ProcessDied if it hangs or fails."""
        self.is_stopping = True
        self.process.terminate()
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self.process.has_ended():
                if time.monotonic() > deadline:
                    self.kill()
                    raise ProcessDied(self._describe("does not stop"))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.is_stopping = False
        self.client = None
        if self.process.status:
            raise ProcessDied(self._describe(f"stops with status {self.process.status}"))

    def _describe(self, mistake: str) -> str:
        return f"{self.process.name} {mistake}: {self.process.log_text()[-2000:]}"


async def start_until_ready(process: Process, ready_text: str) -> None:
    """Start a process, again after each early end, until its log says that the process is ready."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        process.launch()
        try:
            await process.wait_for_line(ready_text)
        except ProcessDied:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return
