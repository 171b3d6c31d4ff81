"""The import: it sends the follows, then warms feeds if asked to, then sends the activities."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Protocol, TypeVar

import grpc
import grpc.aio
from activityfeed import FeedClient, retry_after, violations
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
)
from google.rpc.status_pb2 import Status

from feedsvc.cli.connection import error_text, label
from feedsvc.cli.importing.batch_sender import BatchSender, Entry
from feedsvc.cli.importing.derived_ids import DerivedIds
from feedsvc.cli.importing.files import DamagedFile
from feedsvc.cli.importing.formats import ActivityRow, MalformedLine, Row
from feedsvc.cli.importing.rejects import Reject, RejectsFile
from feedsvc.cli.importing.report import Report
from feedsvc.cli.importing.sources import Location, Source, violated_rules
from feedsvc.cli.rendering import plain

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

#: Reason of a request that breaks the rules of its fields.
INVALID_FIELD = "INVALID_FIELD"

_Result = TypeVar("_Result", FollowResult, PublishActivityResult)
_Request = TypeVar("_Request", FollowRequest, PublishActivityRequest)
_Response = TypeVar("_Response")


class ServerUnavailable(Exception):
    """The server accepted nothing for a minute; the message says why. Import again later."""


class TooManyRejects(Exception):
    """More rows were rejected than the user allows; the message says so."""


class Watcher(Protocol):
    """A receiver of the import's progress and of its complaints."""

    def begin(self, step: str, unit: str, total: int) -> None:
        """Begin a step. ``unit``: what it counts. ``total``: bytes of files, or feeds."""

    def advance(self, done: int, count: int) -> None:
        """Note that ``done`` of the total is done, and ``count`` rows or feeds with it."""

    def complain(self, reject: Reject) -> None:
        """Report a row that the import does not take."""

    def say(self, text: str) -> None:
        """Report anything else."""


class Importer:
    """One import by one client, which needs no request ids.

    A repeated follow changes nothing, nor does a repeated activity with an external id, and the
    import gives every activity an external id. So a batch can be sent again, and a file can be
    imported again.
    """

    def __init__(
        self,
        client: FeedClient | None,
        watcher: Watcher,
        rejects_file: RejectsFile | None = None,
        *,
        wait_for_delivery: bool = False,
        max_rejects: int | None = None,
    ) -> None:
        """Prepare an import. Without a client all rows are checked and none is sent.

        ``rejects_file``: file to write rejected rows to. ``wait_for_delivery``: wait for the
        delivery of each batch, at most CALL_SECONDS. ``max_rejects``: most rows that may be
        rejected.
        """
        self._client = client
        self._watcher = watcher
        self._rejects_file = rejects_file
        self._wait_for_delivery = wait_for_delivery
        self._max_rejects = max_rejects
        self.report = Report()
        """The result so far."""

    async def run(self, sources: Sequence[Source], *, warm: bool) -> None:
        """Import all files; ``warm`` makes the feeds of all entities warm after the follows.

        ``report`` has the result, also of an import that fails or is cancelled.

        Raise AioRpcError if no server answers or a call fails for good, ServerUnavailable if the
        server accepts nothing for a minute, RejectsUnwritable if a rejected row cannot be written
        and TooManyRejects after too many of them.
        """
        start = time.monotonic()
        try:
            await self._run(sources, warm=warm)
        finally:
            self.report.seconds = time.monotonic() - start

    async def _run(self, sources: Sequence[Source], *, warm: bool) -> None:
        users: set[str] | None = set() if warm else None
        sources_with_activities = await self._import_follows(sources, users)
        if users is not None and self._client is not None:
            self.report.warmed = 0
            await self._warm(self._client, users)
        if sources_with_activities:
            await self._import_activities(sources_with_activities)

    async def _import_follows(
        self, sources: Sequence[Source], users: set[str] | None
    ) -> list[Source]:
        """Send the follows and return the files that have activities too.

        Add all entities of the files to ``users``, unless it is None.
        """
        sources_with_activities: dict[Source, None] = {}
        self._watcher.begin("follows", "rows", sum(source.file.size for source in sources))
        sender: BatchSender[FollowRequest] = BatchSender(
            self._send_follows,
            lanes=LANES,
            batch_size=FOLLOWS_A_BATCH,
            batch_bytes=BATCH_BYTES,
        )
        async with sender:
            async for location, row in self._rows(sources, first_pass=True):
                if isinstance(row, ActivityRow):
                    sources_with_activities[location.source] = None
                    if users is not None:
                        users.add(row.actor)
                else:
                    if users is not None:
                        users.update((row.follower, row.followee))
                    await sender.put(row.follower, Entry(location, row))
        return list(sources_with_activities)

    async def _import_activities(self, sources: Sequence[Source]) -> None:
        self._watcher.begin("activities", "rows", sum(source.file.size for source in sources))
        sender: BatchSender[PublishActivityRequest] = BatchSender(
            self._send_activities,
            lanes=LANES,
            batch_size=ACTIVITIES_A_BATCH,
            batch_bytes=BATCH_BYTES,
        )
        derived_ids = {source: DerivedIds() for source in sources}
        async with sender:
            async for location, row in self._rows(sources, first_pass=False):
                if not isinstance(row, ActivityRow):
                    continue
                try:
                    activity = row.build()
                except MalformedLine as error:
                    self._report_malformed(location, str(error))
                    continue
                if not activity.external_id:
                    identity = location.line.content if row.identity is None else row.identity
                    activity.external_id = derived_ids[location.source].next(identity)
                request = PublishActivityRequest(
                    activity=activity, wait_for_delivery=self._wait_for_delivery
                )
                await sender.put(row.actor, Entry(location, request))

    async def _rows(
        self, sources: Sequence[Source], *, first_pass: bool
    ) -> AsyncIterator[tuple[Location, Row]]:
        """Yield all rows with their location.

        The first pass, of the follows, counts rows, and reports malformed lines and damaged files.
        """
        count = read_bytes = 0
        for source in sources:
            try:
                for index, line in enumerate(source.lines(), 1):
                    if index % ROWS_A_TURN == 0 or not line.raw:
                        self._watcher.advance(read_bytes + source.file.position, count)
                        await asyncio.sleep(0)
                    try:
                        row = source.row(line)
                    except MalformedLine as error:
                        if first_pass:
                            self.report.rows += 1
                            self._report_malformed(Location(source, line), str(error))
                        continue
                    if row is not None:
                        # The first pass sends follows, the second one activities.
                        count += first_pass != isinstance(row, ActivityRow)
                        self.report.rows += first_pass
                        yield Location(source, line), row
            except DamagedFile as error:
                if first_pass:
                    self.report.damaged_files[source.name] = str(error)
                    self._watcher.say(f"{source.name}: {error}")
            read_bytes += source.file.size
            self._watcher.advance(read_bytes, count)

    async def _send_follows(self, entries: list[Entry[FollowRequest]]) -> None:
        if (client := self._client) is None:
            self.report.follows += self._check(entries)
            return

        async def call(requests: list[FollowRequest]) -> Sequence[FollowResult]:
            batch = BatchFollowRequest(requests=requests)
            return (await client.follows.BatchFollow(batch)).results

        for result in await self._send_until_answered(call, entries):
            if result.response.already_following:
                self.report.duplicates += 1
            else:
                self.report.follows += 1

    async def _send_activities(self, entries: list[Entry[PublishActivityRequest]]) -> None:
        if (client := self._client) is None:
            self.report.activities += self._check(entries)
            return

        async def call(requests: list[PublishActivityRequest]) -> Sequence[PublishActivityResult]:
            batch = BatchPublishActivitiesRequest(requests=requests)
            return (await client.activities.BatchPublishActivities(batch)).results

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

    def _check(self, entries: Sequence[Entry[_Request]]) -> int:
        """Return the number of requests that break no rule of the service. Report the others."""
        good_count = 0
        for entry in entries:
            source = entry.location.source
            if broken_rules := violated_rules(source, entry.request):
                self._report_refused(
                    entry.location, INVALID_FIELD, f"{broken_rules} ({INVALID_FIELD})"
                )
            else:
                good_count += 1
        return good_count

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
                        entry.location,
                        label(result.error),
                        _explain(entry.location.source, result.error),
                    )
            if not failed_entries:
                return accepted
            if len(failed_entries) < len(entries):  # the server still takes entries
                pauses = iter(PAUSES)
            entries = failed_entries
            await _pause(pauses, last_error.message, retry_after(last_error) or 0)

    async def _warm(self, client: FeedClient, users: Collection[str]) -> None:
        self._watcher.begin("warming", "feeds", len(users))
        remaining_users = iter(users)
        done = warmed = 0

        async def work() -> None:
            nonlocal done, warmed
            for user in remaining_users:
                if await self._rebuild(client, user):
                    warmed += 1
                done += 1
                if done % ROWS_A_TURN == 0:
                    self._watcher.advance(done, done)

        await asyncio.gather(*(work() for _ in range(WARMED_AT_A_TIME)))
        self._watcher.advance(done, done)
        self.report.warmed = warmed

    async def _rebuild(self, client: FeedClient, user: str) -> bool:
        """Make a feed warm; return whether it is. A feed that keeps changing may stay cold."""
        for _ in range(WARM_ATTEMPTS):
            try:
                response = await _call_patiently(
                    partial(client.admin.RebuildFeed, RebuildFeedRequest(user=user))
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED_BATCH_CODES:
                    raise
                return False  # the server refuses the rows of this user too, which are reported
            if response.state == FEED_STATE_WARM:
                return True
        return False

    def _report_malformed(self, location: Location, rule: str) -> None:
        self.report.malformed += 1
        self._report_reject(location, f"malformed: {rule}")

    def _report_refused(self, location: Location, reason: str, rule: str) -> None:
        self.report.refused[reason] += 1
        self._report_reject(location, f"refused: {rule}")

    def _report_reject(self, location: Location, rule: str) -> None:
        reject = Reject(location.source.name, location.line.number, plain(rule))
        self.report.note_reject(reject)
        self._watcher.complain(reject)
        if self._rejects_file is not None:
            self._rejects_file.add(reject, location.line)
        if self._max_rejects is not None and self.report.rejected > self._max_rejects:
            raise TooManyRejects(
                f"stopped, because more than {self._max_rejects:,} rows were rejected "
                "(--max-rejects)"
            )


def _explain(source: Source, error: Status) -> str:
    """Return one line that says which rules a refused entry breaks."""
    if broken_rules := violations(error):
        rules = [(broken.field, broken.description) for broken in broken_rules]
        return f"{plain(source.explain(rules))} ({label(error)})"
    return error_text(error)


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
