"""Follows and activities in bulk, by the service's batch calls."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

from activityfeed import FeedClient, reason
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    PublishActivityRequest,
    PublishActivityResult,
)
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest, FollowResult

from feedsvc.cli.connection import error_text
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.cli.load_test.progress import Progress

#: Most times that an activity is sent while the overloaded server refuses it.
OVERLOADED_TRIES = 60
#: Seconds between two of these attempts.
OVERLOADED_SECONDS = 1.0

_Entry = TypeVar("_Entry")


class PreparationRefused(Exception):
    """The server refused an entry of a batch. The message says why."""


def batches(entries: Sequence[_Entry], size: int) -> list[Sequence[_Entry]]:
    """Cut the entries into batches of at most ``size``."""
    return [entries[first : first + size] for first in range(0, len(entries), size)]


class BulkWriter:
    """Batch calls, at most ``lanes`` at once, and a bar that shows their progress.

    The client should repeat failed calls, as a client of `FeedClient.connect` does.
    """

    def __init__(self, client: FeedClient, progress: Progress, *, batch: int, lanes: int) -> None:
        """Prepare calls with at most ``batch`` entries."""
        self._client = client
        self._progress = progress
        self._batch = batch
        self._lanes = lanes

    async def follow(self, step: str, requests: Sequence[FollowRequest]) -> None:
        """Follow. Raise AioRpcError, or PreparationRefused if the server refuses a follow."""

        async def send(batch: Sequence[FollowRequest]) -> None:
            answer = await self._client.follows.BatchFollow(BatchFollowRequest(requests=batch))
            _check(answer.results)
            self._progress.advance(len(batch))

        self._progress.begin(step, len(requests))
        await in_lanes(batches(requests, self._batch), send, lanes=self._lanes)

    async def publish(self, step: str, requests: Sequence[PublishActivityRequest]) -> None:
        """Publish, in the order of ``requests`` if the writer has one lane.

        An activity that the server refuses because it is overloaded is sent again. Raise
        AioRpcError, or PreparationRefused if the server refuses an activity for good.
        """

        async def send(batch: Sequence[PublishActivityRequest]) -> None:
            await self._publish(batch)
            self._progress.advance(len(batch))

        self._progress.begin(step, len(requests))
        await in_lanes(batches(requests, self._batch), send, lanes=self._lanes)

    async def _publish(self, batch: Sequence[PublishActivityRequest]) -> None:
        for remaining_tries in reversed(range(OVERLOADED_TRIES)):
            answer = await self._client.activities.BatchPublishActivities(
                BatchPublishActivitiesRequest(requests=batch)
            )
            refused = []
            for request, result in zip(batch, answer.results, strict=True):
                if remaining_tries and reason(result.error) == "FANOUT_OVERLOADED":
                    refused.append(request)
                else:
                    _check([result])
            if not refused:
                return
            batch = refused
            await asyncio.sleep(OVERLOADED_SECONDS)


def _check(results: Iterable[FollowResult | PublishActivityResult]) -> None:
    for result in results:
        if result.HasField("error"):
            raise PreparationRefused(error_text(result.error))
