"""Two servers on a store, the importer, and the keys of the store, as an operator has them.

Each server is a process of its own: a single process would read 65,560 feeds too slowly.
"""

import asyncio
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import pytest
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    GetFeedStatsRequest,
    GetFeedStatsResponse,
    VerifyFeedRequest,
    VerifyFeedResponse,
)
from activityfeed.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from activityfeed.v1.activity_service_pb2 import (
    GetActivityRequest,
    ListActivitiesRequest,
    ListActivitiesResponse,
)
from activityfeed.v1.activity_service_pb2_grpc import ActivityServiceStub
from activityfeed.v1.feed_pb2 import FeedPage
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.feed_service_pb2_grpc import FeedServiceStub
from activityfeed.v1.follow_service_pb2 import (
    BatchFollowRequest,
    FollowRequest,
    GetFollowCountsRequest,
    ListFollowersRequest,
)
from activityfeed.v1.follow_service_pb2_grpc import FollowServiceStub
from redis import Redis

from feedsvc.config import Limits
from feedsvc.core import ids, keys
from feedsvc.embedded import _dies_with_parent
from tests.serving import TIMEOUT_SECONDS, Refusal, expect_refusal

log = logging.getLogger("feedsvc.tests.data")

SERVERS = 2
#: Calls that run at once when many feeds or outboxes are read.
WORKERS = 64
#: Keys that one SCAN call asks for.
KEYS = 2_000
#: Seconds that an import may take.
IMPORT_SECONDS = 200
#: A key that expires within this time does not count as stored: a record of a request, for example.
PASSING_MS = 2 * 3_600_000

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """The kind of store and the limits of a test's servers."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    kind: str = "valkey"


def on(*, limits: Limits | None = None, kind: str = "valkey") -> pytest.MarkDecorator:
    """Set the fixture `serving` up with these limits and this kind of store."""
    setup = Setup(limits or Limits(), kind)
    return pytest.mark.parametrize("serving", [setup], indirect=True, ids=[kind])


@dataclass(frozen=True)
class Imported:
    """The report of `feedsvc import --json`, and its standard error."""

    report: dict[str, Any]
    complaints: str

    def __getitem__(self, name: str) -> Any:
        return self.report[name]


class Readers:
    """Stubs of all servers. Calls go to the servers in turn, even the pages of one walk."""

    def __init__(self, channels: Iterable[grpc.aio.Channel]) -> None:
        channels = list(channels)
        self._activities = cycle([ActivityServiceStub(channel) for channel in channels])
        self._admin = cycle([AdminServiceStub(channel) for channel in channels])
        self._feeds = cycle([FeedServiceStub(channel) for channel in channels])
        self._follows = cycle([FollowServiceStub(channel) for channel in channels])

    async def feed(self, user: str, size: int = 100) -> list[FeedPage]:
        """Return all pages of a feed."""
        pages: list[FeedPage] = []
        token = ""
        while token or not pages:
            request = GetFeedRequest(user=user, page_size=size, page_token=token)
            response = await next(self._feeds).GetFeed(request, timeout=TIMEOUT_SECONDS)
            pages.append(response.page)
            token = response.page.next_page_token
        return pages

    async def outbox(
        self, entity: str, *, own_only: bool = False, size: int = 100
    ) -> list[ListActivitiesResponse]:
        """Return all pages of an outbox."""
        pages: list[ListActivitiesResponse] = []
        token = ""
        while token or not pages:
            request = ListActivitiesRequest(
                entity=entity, own_only=own_only, page_size=size, page_token=token
            )
            page = await next(self._activities).ListActivities(request, timeout=TIMEOUT_SECONDS)
            pages.append(page)
            token = page.next_page_token
        return pages

    async def followers(self, entity: str) -> list[str]:
        """Return all followers. Fail if their edges do not come newest first."""
        followers: list[str] = []
        times: list[int] = []
        token = ""
        while token or not followers:
            request = ListFollowersRequest(entity=entity, page_size=1_000, page_token=token)
            page = await next(self._follows).ListFollowers(request, timeout=TIMEOUT_SECONDS)
            assert all(edge.followee == entity for edge in page.edges)
            followers += (edge.follower for edge in page.edges)
            times += (edge.follow_time.ToNanoseconds() for edge in page.edges)
            token = page.next_page_token
        assert times == sorted(times, reverse=True)
        return followers

    async def counts(self, entity: str) -> tuple[int, int]:
        """Return the numbers of followers and followees."""
        request = GetFollowCountsRequest(entity=entity)
        counts = await next(self._follows).GetFollowCounts(request, timeout=TIMEOUT_SECONDS)
        return counts.follower_count, counts.following_count

    async def follow_all(self, edges: Iterable[tuple[str, str]]) -> None:
        """Make new edges (follower, followee)."""
        entries = [FollowRequest(follower=a, followee=b) for a, b in edges]
        batches = [entries[first : first + 500] for first in range(0, len(entries), 500)]

        async def send(batch: list[FollowRequest]) -> None:
            request = BatchFollowRequest(requests=batch)
            response = await next(self._follows).BatchFollow(request, timeout=TIMEOUT_SECONDS)
            for entry, result in zip(batch, response.results, strict=True):
                assert result.HasField("response"), (entry, result.error)
                assert not result.response.already_following, entry

        await for_each(batches, send, workers=4)

    async def verify(self, user: str) -> VerifyFeedResponse:
        return await next(self._admin).VerifyFeed(
            VerifyFeedRequest(user=user), timeout=TIMEOUT_SECONDS
        )

    async def stats(self, user: str) -> GetFeedStatsResponse:
        return await next(self._admin).GetFeedStats(
            GetFeedStatsRequest(user=user), timeout=TIMEOUT_SECONDS
        )

    async def wait_until_at_rest(self) -> None:
        """Wait until all deliveries and flips have ended."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (status := await self._fanout()).open_count or status.inline_count:
            assert time.monotonic() < deadline, status
            await asyncio.sleep(0.1)
        assert status.dead_letter_count == 0

    async def _fanout(self) -> GetFanoutStatusResponse:
        return await next(self._admin).GetFanoutStatus(
            GetFanoutStatusRequest(), timeout=TIMEOUT_SECONDS
        )

    async def refusal_to_get(self, activity_id: str) -> Refusal:
        request = GetActivityRequest(id=activity_id)
        return await expect_refusal(
            next(self._activities).GetActivity(request, timeout=TIMEOUT_SECONDS)
        )


class Serving:
    """Two servers on a store. They must end with status 0 and log no warning and no error."""

    def __init__(self, url: str, limits: Limits, folder: Path) -> None:
        self.url = url
        self.limits = limits
        self._logs = [folder / f"server{number}.log" for number in range(SERVERS)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.addresses: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._processes += map(self._start, self._logs)
            self.addresses += map(self._address, self._processes, self._logs)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        codes = self._stop()
        for path in self._logs:
            text = path.read_text()
            # The warnings of the start are about the store of the tests.
            assert not re.search(r"^\S+Z (?!INFO |WARNING serve: )", text, re.MULTILINE), text
        assert codes == [0] * SERVERS

    def _start(self, path: Path) -> "subprocess.Popen[bytes]":
        options = [
            part
            for setting in dataclasses.fields(self.limits)
            for part in (
                "--" + setting.name.replace("_", "-"),
                str(getattr(self.limits, setting.name)),
            )
        ]
        command = [sys.executable, "-m", "feedsvc", "serve", "--port", "0", *options]
        inherited = {name: text for name, text in os.environ.items() if "FEEDSVC_" not in name}
        with path.open("wb") as output:
            return subprocess.Popen(
                _dies_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=inherited | {"FEEDSVC_REDIS_URL": self.url},
            )

    def _address(self, process: "subprocess.Popen[bytes]", path: Path) -> str:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (match := re.search(r"serving on (\S+:\d+)\n", path.read_text())):
            assert process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.05)
        return match[1]

    def _stop(self) -> list[int]:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        try:
            return [process.wait(TIMEOUT_SECONDS) for process in self._processes]
        finally:
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def load(self, line_format: str, *files: Path, warm: bool = False) -> Imported:
        """Run `feedsvc import` to the end of the last delivery."""
        options = ["--wait-for-delivery", *(["--warm"] if warm else [])]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "feedsvc", "import", "--json", "--format", line_format),
                *("--server", self.addresses[0], *options, *map(str, files)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=IMPORT_SECONDS,
        )
        assert done.returncode in {0, 1}, done.stderr
        report = json.loads(done.stdout)
        assert done.returncode == bool(report["malformed"] or report["refused"]), done.stderr
        log.info("import of %s: %s", ", ".join(file.name for file in files), report)
        return Imported(report, done.stderr)

    @asynccontextmanager
    async def readers(self) -> AsyncIterator[Readers]:
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address))
                for address in self.addresses
            ]
            yield Readers(channels)

    # The keys of the store.

    @contextmanager
    def _store(self) -> Iterator["Redis"]:
        with Redis.from_url(self.url, protocol=2) as store:
            yield store

    def chill(self, users: Iterable[str]) -> None:
        """Make these feeds cold, as their expiry would."""
        tags = keys.tags(self.limits.shards)
        names = [keys.feed(tags[ids.shard_for(user, self.limits.shards)], user) for user in users]
        with self._store() as store:
            pipeline = store.pipeline(transaction=False)
            for name in names:
                pipeline.delete(name)
            log.info("%d of %d feeds were warm", sum(pipeline.execute()), len(names))

    def wait_until_released(self) -> None:
        """Wait until the servers have deleted the activities that no outbox holds: some seconds."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with self._store() as store:
            names = [keys.trim_notes(tag) for tag in keys.tags(self.limits.shards)]
            while any(store.exists(name) for name in names):
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def stored(self) -> dict[Any, bytes]:
        """Return a digest of the content of each key, but for keys that expire soon."""
        digests: dict[Any, bytes] = {}
        with self._store() as store:
            cursor = 0
            while True:
                cursor, names = store.scan(cursor, count=KEYS)
                pipeline = store.pipeline(transaction=False)
                for name in names:
                    pipeline.pttl(name)
                    pipeline.dump(name)
                answers = pipeline.execute()
                for name, ttl, dump in zip(names, answers[::2], answers[1::2], strict=True):
                    if dump is not None and not 0 <= ttl <= PASSING_MS:
                        digests[name] = blake2b(dump, digest_size=16).digest()
                if cursor == 0:
                    return digests


async def for_each(
    items: Iterable[T], work: Callable[[T], Awaitable[object]], *, workers: int = WORKERS
) -> None:
    """Do the work for each item, several at once. Raise the error that came first."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(worker())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
