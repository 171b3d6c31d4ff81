"""The import itself: follows first, then feeds are warmed if asked, then activities."""

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

from feedsvc.cli.connection import label, told
from feedsvc.cli.derived_ids import DerivedIds
from feedsvc.cli.lanes import Entry, Lanes
from feedsvc.cli.rows import Malformed, Pending, Preset, Row
from feedsvc.cli.sources import Damaged, Source

#: Batches on their way at once.
LANES = 6
FOLLOWS_A_BATCH = 500
ACTIVITIES_A_BATCH = 200
#: Well below what a server takes by default, 4 MiB.
BATCH_BYTES = 1 << 20
#: Feeds that are warmed at once.
WARMING = 64
#: How often a feed is warmed that changes while it is being warmed.
WARM_TRIES = 3
#: Seconds that a call may take, and wait for deliveries.
CALL_SECONDS = 60.0
#: Seconds between tries while the server takes nothing; after them the import gives up.
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, *repeat(5.0, 10))
#: Rows after which other tasks get their turn, and the progress is told.
ROWS_A_TURN = 256

#: It passes: the rows are sent again. A server that is stopping may cancel what it has not begun.
_PASSES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
#: The same of a row. What exhausts resources then are the deliveries that wait, not the row's size.
_PASSES_NUMBERS = {code.value[0] for code in (*_PASSES, grpc.StatusCode.RESOURCE_EXHAUSTED)}
#: It is the batch, not the connection: its rows are refused, and the import goes on.
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)

_Result = TypeVar("_Result", FollowResult, PublishActivityResult)
_Request = TypeVar("_Request", FollowRequest, PublishActivityRequest)
_Answer = TypeVar("_Answer")


class Unavailable(Exception):
    """The server took nothing for a minute; the message says why. Import again later."""


class Watcher(Protocol):
    """Is told how the import gets on."""

    def begin(self, step: str, total: int) -> None:
        """Follows or activities: ``total`` are bytes. Warming: feeds."""

    def advance(self, done: int, count: int) -> None:
        """So much of the total is done by now, and so many rows or feeds."""

    def complain(self, place: str, text: str) -> None:
        """A row is malformed or refused."""


@dataclass(slots=True)
class Report:
    """What an import came to.

    Follows and activities that were there are duplicates only. So are those that the server made
    without its answer arriving, which have been sent again. Deliveries are those of new activities
    that were over when the server answered.
    """

    follows: int = 0
    activities: int = 0
    deliveries: int = 0
    skipped_cold: int = 0
    pulled: int = 0
    """Followers that read for themselves what somebody whom very many follow has done."""
    queued: int = 0
    """Activities whose delivery was not over when the server answered."""
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    warmed: int | None = None
    """None: nothing was to be warmed."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["refused"] = dict(self.refused)
        values["seconds"] = round(self.seconds, 3)
        if self.warmed is None:
            del values["warmed"]
        return values


class Import:
    """One import by a client, which needs no request ids.

    Follows change nothing when they are repeated, nor do activities with an external id, and all
    get one. So batches can be sent again, and files be imported again.
    """

    def __init__(self, client: FeedClient, preset: Preset, watcher: Watcher, *, wait: bool) -> None:
        """``wait``: for the delivery of each batch, as long as a call may take."""
        self._client = client
        self._preset = preset
        self._watcher = watcher
        self._wait = wait
        self.report = Report()

    async def run(self, sources: Sequence[Source], *, warm: bool) -> Report:
        """Imports them all.

        Raises AioRpcError if there is no server or a call fails for good, and Unavailable if the
        server went away and did not come back.
        """
        # Found out at once, not after a minute of trying.
        await self._client.follows.GetFollowCounts(GetFollowCountsRequest(entity="import"))
        begun = time.monotonic()
        users: set[str] | None = set() if warm else None
        with_activities = await self._follow(sources, users)
        if users is not None:
            self.report.warmed = 0
            await self._warm(users)
        if with_activities:
            await self._publish(with_activities)
        self.report.seconds = time.monotonic() - begun
        return self.report

    async def _follow(self, sources: Sequence[Source], users: set[str] | None) -> list[Source]:
        """Sends the follows. Returns the sources that have activities too."""
        others: dict[Source, None] = {}
        self._watcher.begin("follows", sum(source.size for source in sources))
        lanes: Lanes[FollowRequest] = Lanes(
            self._send_follows, lanes=LANES, batch=FOLLOWS_A_BATCH, batch_bytes=BATCH_BYTES
        )
        async with lanes:
            async for source, place, _, row in self._rows(sources, first=True):
                if isinstance(row, Pending):
                    others[source] = None
                    if users is not None:
                        users.add(row.actor)
                else:
                    if users is not None:
                        users.update((row.follower, row.followee))
                    await lanes.put(row.follower, Entry(place, row))
        return list(others)

    async def _publish(self, sources: Sequence[Source]) -> None:
        self._watcher.begin("activities", sum(source.size for source in sources))
        lanes: Lanes[PublishActivityRequest] = Lanes(
            self._send_activities, lanes=LANES, batch=ACTIVITIES_A_BATCH, batch_bytes=BATCH_BYTES
        )
        derived = {source: DerivedIds() for source in sources}
        async with lanes:
            async for source, place, line, row in self._rows(sources, first=False):
                if not isinstance(row, Pending):
                    continue
                try:
                    activity = row.build()
                except Malformed as error:
                    self._malformed(place, error)
                    continue
                if not activity.external_id:
                    activity.external_id = derived[source].next(line)
                request = PublishActivityRequest(activity=activity, wait_for_delivery=self._wait)
                await lanes.put(row.actor, Entry(place, request))

    async def _rows(
        self, sources: Sequence[Source], *, first: bool
    ) -> AsyncIterator[tuple[Source, str, bytes, Row]]:
        """All rows with their source, place and line. The first time it says what is malformed."""
        count = read = 0
        for source in sources:
            try:
                for number, line in source.lines():
                    if number % ROWS_A_TURN == 0:
                        self._watcher.advance(read + source.position, count)
                        await asyncio.sleep(0)
                    try:
                        row = self._preset(line)
                    except Malformed as error:
                        if first:
                            self._malformed(f"{source.name}:{number}", error)
                        continue
                    if row is not None:
                        count += first != isinstance(row, Pending)  # those of this time
                        yield source, f"{source.name}:{number}", line, row
            except Damaged as error:
                if first:
                    self._malformed(source.name, error)
            read += source.size
            self._watcher.advance(read, count)

    def _malformed(self, place: str, error: Exception) -> None:
        self.report.malformed += 1
        self._watcher.complain(place, f"malformed: {error}")

    async def _send_follows(self, entries: list[Entry[FollowRequest]]) -> None:
        async def call(requests: list[FollowRequest]) -> Sequence[FollowResult]:
            batch = BatchFollowRequest(requests=requests)
            return (await self._client.follows.BatchFollow(batch)).results

        for result in await self._accepted(call, entries):
            if result.response.already_following:
                self.report.duplicates += 1
            else:
                self.report.follows += 1

    async def _send_activities(self, entries: list[Entry[PublishActivityRequest]]) -> None:
        async def call(requests: list[PublishActivityRequest]) -> Sequence[PublishActivityResult]:
            batch = BatchPublishActivitiesRequest(requests=requests)
            return (await self._client.activities.BatchPublishActivities(batch)).results

        for result in await self._accepted(call, entries):
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

    async def _accepted(
        self,
        call: Callable[[list[_Request]], Awaitable[Sequence[_Result]]],
        entries: list[Entry[_Request]],
    ) -> list[_Result]:
        """The results of what was not refused. What cannot be done now is sent again."""
        accepted: list[_Result] = []
        pauses = iter(PAUSES)
        while True:
            try:
                results = await _patient(partial(call, [entry.request for entry in entries]))
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED:
                    raise
                for entry in entries:
                    self._refused(entry.place, label(error), told(error))
                return accepted
            again: list[Entry[_Request]] = []
            why = Status()
            for entry, result in zip(entries, results, strict=True):
                if result.HasField("response"):
                    accepted.append(result)
                elif result.error.code in _PASSES_NUMBERS:
                    again.append(entry)
                    why = result.error
                else:
                    self._refused(entry.place, label(result.error), told(result.error))
            if not again:
                return accepted
            if len(again) < len(entries):  # it gets on
                pauses = iter(PAUSES)
            entries = again
            await _pause(pauses, why.message, retry_after(why) or 0)

    def _refused(self, place: str, why: str, text: str) -> None:
        self.report.refused[why] += 1
        self._watcher.complain(place, f"refused: {text}")

    async def _warm(self, users: Collection[str]) -> None:
        self._watcher.begin("warming", len(users))
        waiting = iter(users)
        done = warmed = 0

        async def work() -> None:
            nonlocal done, warmed
            for user in waiting:
                if await self._rebuild(user):
                    warmed += 1
                done += 1
                if done % ROWS_A_TURN == 0:
                    self._watcher.advance(done, done)

        await asyncio.gather(*(work() for _ in range(WARMING)))
        self._watcher.advance(done, done)
        self.report.warmed = warmed

    async def _rebuild(self, user: str) -> bool:
        """Whether the feed is warm then; it is not while it is changing."""
        for _ in range(WARM_TRIES):
            try:
                answer = await _patient(
                    partial(self._client.admin.RebuildFeed, RebuildFeedRequest(user=user))
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED:
                    raise
                return False  # its rows are refused too, which is told
            if answer.state == FEED_STATE_WARM:
                return True
        return False


async def _patient(call: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Repeats a call while the server cannot be reached, or is too slow."""
    pauses = iter(PAUSES)
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSES:
                raise
            why = error.details() or error.code().name
        await _pause(pauses, why)


async def _pause(pauses: Iterator[float], why: str, least: float = 0) -> None:
    pause = next(pauses, None)
    if pause is None:
        raise Unavailable(why)
    await asyncio.sleep(max(pause * random.uniform(0.5, 1), least))
