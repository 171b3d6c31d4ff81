"""The users' data: made before a run by the service's own calls, and removed after it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import (
    DeleteActivityRequest,
    ListActivitiesRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import (
    FollowRequest,
    ListFollowingRequest,
    UnfollowRequest,
)

from feedsvc.cli.load_test.bulk import BulkWriter
from feedsvc.cli.load_test.pacing import in_lanes
from feedsvc.cli.load_test.plan import Kind, Plan
from feedsvc.cli.load_test.population import Population
from feedsvc.cli.load_test.progress import Progress

#: Most entries of a batch, and batches in flight.
BATCH, BATCHES = 200, 6
#: Most bytes of content in a batch: well below the default limit of a server, 4 MiB.
BATCH_BYTES = 1 << 20
#: Reads in flight.
READS = 32
#: Users whose data is removed at once.
USERS = 4
#: Edges or activities that one call lists, and that are removed at once.
PAGE = 100

_Job = TypeVar("_Job")


class Preparation:
    """The data of a run, for a client that repeats calls, as `FeedClient.connect` makes it."""

    def __init__(self, client: FeedClient, plan: Plan, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._progress = progress
        self._names = Population(plan).names
        self._removed = 0
        """Number of edges and activities that were removed."""

    async def make(self, follows: Mapping[int, Sequence[int]]) -> dict[int, str]:
        """Make follows and activities, and read every feed, so that all feeds are warm.

        Return the page token of each feed's second page, if the plan needs it. Raise AioRpcError
        and PreparationRefused.
        """
        edges = [
            FollowRequest(follower=self._names[user], followee=self._names[followee])
            for user, followees in follows.items()
            for followee in followees
        ]
        await self._writer(BATCH).follow("follows", edges)
        requests = [
            # Every delivery ends before anything is measured.
            PublishActivityRequest(activity=self._activity(name, number), wait_for_delivery=True)
            for number in range(self._plan.activities)
            for name in self._names
        ]
        size = min(BATCH, BATCH_BYTES // (self._plan.content_bytes or 1))
        await self._writer(size).publish("activities", requests)
        tokens: dict[int, str] = {}
        await self._each("reading", range(self._plan.users), READS, partial(self._read, tokens))
        return tokens if self._plan.mix.get(Kind.DEEPER) else {}

    async def remove(self) -> None:
        """End every follow of the run's users, and delete every activity that they published.

        The service lists what to remove: that includes data of calls that got no answer. Raise
        AioRpcError.
        """
        await self._remove_once()

    async def remove_all(self) -> None:
        """Remove until nothing is found: calls that were cancelled may store data meanwhile."""
        removed = -1
        while removed != self._removed:
            removed = self._removed
            await self._remove_once()

    async def _remove_once(self) -> None:
        users = self._names
        await self._each("unfollowing", users, USERS, self._unfollow_all)
        await self._each("deleting", users, USERS, self._delete_all)

    def _writer(self, batch: int) -> BulkWriter:
        return BulkWriter(self._client, self._progress, batch=batch, lanes=BATCHES)

    async def _read(self, tokens: dict[int, str], user: int) -> None:
        request = GetFeedRequest(user=self._names[user], page_size=self._plan.page_size)
        tokens[user] = (await self._client.feeds.GetFeed(request)).page.next_page_token

    async def _unfollow_all(self, user: str) -> None:
        request = ListFollowingRequest(entity=user, page_size=PAGE)
        while True:
            page = await self._client.follows.ListFollowing(request)
            await asyncio.gather(
                *(
                    self._client.follows.Unfollow(
                        UnfollowRequest(follower=user, followee=edge.followee)
                    )
                    for edge in page.edges
                )
            )
            self._removed += len(page.edges)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _delete_all(self, user: str) -> None:
        request = ListActivitiesRequest(entity=user, page_size=PAGE)
        while True:
            page = await self._client.activities.ListActivities(request)
            await asyncio.gather(
                *(self._delete(user, viewed.activity.id) for viewed in page.activities)
            )
            self._removed += len(page.activities)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _delete(self, user: str, activity_id: str) -> None:
        try:
            await self._client.activities.DeleteActivity(
                DeleteActivityRequest(id=activity_id, actor=user)
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # retention was quicker
                raise

    async def _each(
        self, step: str, jobs: Sequence[_Job], lanes: int, work: Callable[[_Job], Awaitable[None]]
    ) -> None:
        """Do the jobs of a step, and move its bar."""

        async def work_and_show(job: _Job) -> None:
            await work(job)
            self._progress.advance()

        self._progress.begin(step, len(jobs))
        await in_lanes(jobs, work_and_show, lanes=lanes)

    def _activity(self, actor: str, number: int) -> Activity:
        object_ref = Ref(id=f"{self._plan.prefix}:before/{number}")
        content = "x" * self._plan.content_bytes
        return Activity(actor=actor, verb="post", object=object_ref, content=content)
