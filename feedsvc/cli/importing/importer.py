"""The import: it sends the follows, then warms feeds if asked to, then sends the activities."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import repeat
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from activityfeed import FeedClient, retry_after
from activityfeed.admin.v1.admin_service_pb2 import FEED_STATE_WARM, RebuildFeedRequest
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_PULLED,
    DELIVERY_STATE_QUEUED,
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
    PublishActivityResult,
)
from activityfeed.v1.follow_service_pb2 import (
    BatchFollowRequest,
    FollowRequest,
    FollowResult,
    GetFollowCountsRequest,
)
from google.rpc.status_pb2 import Status

from feedsvc.cli.connection import error_text, label
from feedsvc.cli.importing.batch_sender import BatchSender, Entry
from feedsvc.cli.importing.derived_ids import DerivedIds
from feedsvc.cli.importing.files import DamagedFile, ImportFile
from feedsvc.cli.importing.formats import ActivityRow, Format, MalformedLine, Row

#: Batches that are under way at a time.
LANES = 6
#: Most follows of a batch.
FOLLOWS_A_BATCH = 500
#: Most activities of a batch.
ACTIVITIES_A_BATCH = 200
#: Most bytes of a batch: well below what a server takes by default, 4 MiB.
BATCH_BYTES = 1 << 20
#: Feeds that are warmed at a time.
WARMED_AT_A_TIME = 64
#: Attempts to warm a feed that changes meanwhile.
WARM_ATTEMPTS = 3
#: Seconds that a call may take, waiting for deliveries included.
CALL_SECONDS = 60.0
#: Seconds between attempts while the server accepts nothing. After the last pause the import gives
#: up.
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, *repeat(5.0, 10))
#: Rows between two reports of progress, at which other tasks run too.
ROWS_A_TURN = 256

#: Codes of failed calls that are sent again. A stopping server may cancel a call that it has not
#: begun.
_TRANSIENT_CALL_CODES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
#: Numbers of the codes of failed entries that are sent again. In an entry, RESOURCE_EXHAUSTED means
#: that too many deliveries wait, not that the entry is too large.
_TRANSIENT_ENTRY_CODES = {
    code.value[0] for code in (*_TRANSIENT_CALL_CODES, grpc.StatusCode.RESOURCE_EXHAUSTED)
}
#: Codes that refuse a whole batch. Its rows are reported as refused, and the import goes on.
_REFUSED_BATCH_CODES = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)

_Result = TypeVar("_Result", FollowResult, PublishActivityResult)
_Request = TypeVar("_Request", FollowRequest, PublishActivityRequest)
_Response = TypeVar("_Response")


class ServerUnavailable(Exception):
    """The server accepted nothing for a minute; the message says why. Import again later."""


class Watcher(Protocol):
    """A receiver of the import's progress and of its complaints."""

    def begin(self, step: str, total: int) -> None:
        """Begin a step. ``total`` is bytes for follows and activities, and feeds for warming."""

    def advance(self, done: int, count: int) -> None:
        """Note that ``done`` of the total is done, and ``count`` rows or feeds with it."""

    def complain(self, location: str, text: str) -> None:
        """Report a row that is malformed or refused."""


@dataclass(slots=True)
class Report:
    """The result of an import.

    Follows and activities count if they are new. A follow or activity that the store had before is
    a duplicate. So is a row whose first answer was lost, because the import sent the row again.
    Deliveries count if their activity is new and they had ended when the server answered.
    """

    follows: int = 0
    activities: int = 0
    deliveries: int = 0
    skipped_cold: int = 0
    pulled: int = 0
    """Followers of celebrities, whose reads fetch the activity."""
    queued: int = 0
    """Activities whose delivery had not ended when the server answered."""
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Refused rows by reason."""
    malformed: int = 0
    warmed: int | None = None
    """Number of feeds that were warmed; None if the import was not to warm any."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that can be written as JSON."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        values["refused"] = dict(self.refused)
        values["seconds"] = round(self.seconds, 3)
        if self.warmed is None:
            del values["warmed"]
        return values


class Importer:
    """One import by one client, which needs no request ids.

    A repeated follow changes nothing, nor does a repeated activity with an external id, and the
    import gives every activity an external id. So a batch can be sent again, and a file can be
    imported again.
    """

    def __init__(
        self,
        client: FeedClient,
        line_format: Format,
        watcher: Watcher,
        *,
        wait_for_delivery: bool,
    ) -> None:
        """Prepare an import of lines in ``line_format``.

        ``wait_for_delivery``: wait for the delivery of each batch, at most CALL_SECONDS.
        """
        self._client = client
        self._format = line_format
        self._watcher = watcher
        self._wait_for_delivery = wait_for_delivery
        self.report = Report()

    async def run(self, files: Sequence[ImportFile], *, warm: bool) -> Report:
        """Import all files; ``warm`` makes the feeds of all entities warm after the follows.

        Raise AioRpcError if no server answers or a call fails for good, and ServerUnavailable if
        the server accepts nothing for a minute.
        """
        # This call fails at once if no server is there. Later calls are repeated for a minute.
        await self._client.follows.GetFollowCounts(GetFollowCountsRequest(entity="import"))
        start = time.monotonic()
        users: set[str] | None = set() if warm else None
        files_with_activities = await self._import_follows(files, users)
        if users is not None:
            self.report.warmed = 0
            await self._warm(users)
        if files_with_activities:
            await self._import_activities(files_with_activities)
        self.report.seconds = time.monotonic() - start
        return self.report

    async def _import_follows(
        self, files: Sequence[ImportFile], users: set[str] | None
    ) -> list[ImportFile]:
        """Send the follows and return the files that have activities too.

        Add all entities of the files to ``users``, unless it is None.
        """
        files_with_activities: dict[ImportFile, None] = {}
        self._watcher.begin("follows", sum(file.size for file in files))
        sender: BatchSender[FollowRequest] = BatchSender(
            self._send_follows,
            lanes=LANES,
            batch_size=FOLLOWS_A_BATCH,
            batch_bytes=BATCH_BYTES,
        )
        async with sender:
            async for file, location, _, row in self._rows(files, first_pass=True):
                if isinstance(row, ActivityRow):
                    files_with_activities[file] = None
                    if users is not None:
                        users.add(row.actor)
                else:
                    if users is not None:
                        users.update((row.follower, row.followee))
                    await sender.put(row.follower, Entry(location, row))
        return list(files_with_activities)

    async def _import_activities(self, files: Sequence[ImportFile]) -> None:
        self._watcher.begin("activities", sum(file.size for file in files))
        sender: BatchSender[PublishActivityRequest] = BatchSender(
            self._send_activities,
            lanes=LANES,
            batch_size=ACTIVITIES_A_BATCH,
            batch_bytes=BATCH_BYTES,
        )
        derived_ids = {file: DerivedIds() for file in files}
        async with sender:
            async for file, location, line, row in self._rows(files, first_pass=False):
                if not isinstance(row, ActivityRow):
                    continue
                try:
                    activity = row.build()
                except MalformedLine as error:
                    self._report_malformed(location, error)
                    continue
                if not activity.external_id:
                    activity.external_id = derived_ids[file].next(line)
                request = PublishActivityRequest(
                    activity=activity, wait_for_delivery=self._wait_for_delivery
                )
                await sender.put(row.actor, Entry(location, request))

    async def _rows(
        self, files: Sequence[ImportFile], *, first_pass: bool
    ) -> AsyncIterator[tuple[ImportFile, str, bytes, Row]]:
        """Yield all rows with their file, location and line.

        The first pass, of the follows, reports malformed lines and damaged files.
        """
        count = read_bytes = 0
        for file in files:
            try:
                for number, line in file.lines():
                    if number % ROWS_A_TURN == 0:
                        self._watcher.advance(read_bytes + file.position, count)
                        await asyncio.sleep(0)
                    try:
                        row = self._format(line)
                    except MalformedLine as error:
                        if first_pass:
                            self._report_malformed(f"{file.name}:{number}", error)
                        continue
                    if row is not None:
                        # The first pass sends follows, the second one activities.
                        count += first_pass != isinstance(row, ActivityRow)
                        yield file, f"{file.name}:{number}", line, row
            except DamagedFile as error:
                if first_pass:
                    self._report_malformed(file.name, error)
            read_bytes += file.size
            self._watcher.advance(read_bytes, count)

    async def _send_follows(self, entries: list[Entry[FollowRequest]]) -> None:
        async def call(requests: list[FollowRequest]) -> Sequence[FollowResult]:
            batch = BatchFollowRequest(requests=requests)
            return (await self._client.follows.BatchFollow(batch)).results

        for result in await self._send_until_answered(call, entries):
            if result.response.already_following:
                self.report.duplicates += 1
            else:
                self.report.follows += 1

    async def _send_activities(self, entries: list[Entry[PublishActivityRequest]]) -> None:
        async def call(requests: list[PublishActivityRequest]) -> Sequence[PublishActivityResult]:
            batch = BatchPublishActivitiesRequest(requests=requests)
            return (await self._client.activities.BatchPublishActivities(batch)).results

        for result in await self._send_until_answered(call, entries):
            delivery = result.response.delivery
            queued = delivery.state == DELIVERY_STATE_QUEUED
            self.report.queued += queued
            if result.response.already_published:
                self.report.duplicates += 1
                continue
            self.report.activities += 1
            if not queued:
                self.report.deliveries += delivery.delivered_count
                self.report.skipped_cold += delivery.skipped_cold_count
            if delivery.state == DELIVERY_STATE_PULLED:
                pushed = delivery.delivered_count + delivery.skipped_cold_count
                self.report.pulled += max(0, delivery.audience_count - pushed)

    async def _send_until_answered(
        self,
        call: Callable[[list[_Request]], Awaitable[Sequence[_Result]]],
        entries: list[Entry[_Request]],
    ) -> list[_Result]:
        """Send a batch, and its transient failures again; return the results of accepted entries.

        Report the refused entries. Raise ServerUnavailable if nothing is accepted for a minute.
        """
        accepted: list[_Result] = []
        pauses = iter(PAUSES)
        while True:
            try:
                results = await _call_patiently(partial(call, [entry.request for entry in entries]))
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED_BATCH_CODES:
                    raise
                for entry in entries:
                    self._report_refused(entry.location, label(error), error_text(error))
                return accepted
            failed_entries: list[Entry[_Request]] = []
            last_error = Status()
            for entry, result in zip(entries, results, strict=True):
                if result.HasField("response"):
                    accepted.append(result)
                elif result.error.code in _TRANSIENT_ENTRY_CODES:
                    failed_entries.append(entry)
                    last_error = result.error
                else:
                    self._report_refused(
                        entry.location, label(result.error), error_text(result.error)
                    )
            if not failed_entries:
                return accepted
            if len(failed_entries) < len(entries):  # the server still takes entries
                pauses = iter(PAUSES)
            entries = failed_entries
            await _pause(pauses, last_error.message, retry_after(last_error) or 0)

    async def _warm(self, users: Collection[str]) -> None:
        self._watcher.begin("warming", len(users))
        remaining_users = iter(users)
        done = warmed = 0

        async def work() -> None:
            nonlocal done, warmed
            for user in remaining_users:
                if await self._rebuild(user):
                    warmed += 1
                done += 1
                if done % ROWS_A_TURN == 0:
                    self._watcher.advance(done, done)

        await asyncio.gather(*(work() for _ in range(WARMED_AT_A_TIME)))
        self._watcher.advance(done, done)
        self.report.warmed = warmed

    async def _rebuild(self, user: str) -> bool:
        """Make a feed warm; return whether it is. A feed that keeps changing may stay cold."""
        for _ in range(WARM_ATTEMPTS):
            try:
                response = await _call_patiently(
                    partial(self._client.admin.RebuildFeed, RebuildFeedRequest(user=user))
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED_BATCH_CODES:
                    raise
                return False  # the server refuses the rows of this user too, which are reported
            if response.state == FEED_STATE_WARM:
                return True
        return False

    def _report_malformed(self, location: str, error: Exception) -> None:
        self.report.malformed += 1
        self._watcher.complain(location, f"malformed: {error}")

    def _report_refused(self, location: str, reason: str, text: str) -> None:
        self.report.refused[reason] += 1
        self._watcher.complain(location, f"refused: {text}")


async def _call_patiently(call: Callable[[], Awaitable[_Response]]) -> _Response:
    """Repeat a call while the server cannot be reached or is too slow."""
    pauses = iter(PAUSES)
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TRANSIENT_CALL_CODES:
                raise
            failure = error.details() or error.code().name
        await _pause(pauses, failure)


async def _pause(pauses: Iterator[float], failure: str, min_seconds: float = 0) -> None:
    """Wait for the next pause, shortened at random. Raise ServerUnavailable after the last one."""
    seconds = next(pauses, None)
    if seconds is None:
        raise ServerUnavailable(failure)
    await asyncio.sleep(max(seconds * random.uniform(0.5, 1), min_seconds))
