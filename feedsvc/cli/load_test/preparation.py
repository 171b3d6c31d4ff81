"""Making what a run needs, through the service's own calls, and taking it away again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio
from activityfeed import FeedClient, reason
from activityfeed.v1.activity_pb2 import Activity, Ref
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    DeleteActivityRequest,
    ListActivitiesRequest,
    PublishActivityRequest,
    PublishActivityResult,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import (
    BatchFollowRequest,
    FollowRequest,
    FollowResult,
    ListFollowingRequest,
    UnfollowRequest,
)

from feedsvc.cli.connection import error_text
from feedsvc.cli.load_test.plan import Kind, Plan
from feedsvc.cli.load_test.population import Population
from feedsvc.cli.load_test.progress import Progress

#: Entries of a batch, batches on their way at once, and bytes of content in a batch: well below
#: what a server takes by default, 4 MiB.
BATCH, BATCHES, BATCH_BYTES = 200, 6, 1 << 20
#: Reads on their way at once.
READS = 32
#: How often what the server must first make room for is sent, and seconds between.
OVERLOADED_TRIES, OVERLOADED_SECONDS = 60, 1.0
#: Users whose data is taken away at once, and how much of each.
USERS, PAGE = 4, 100

_Job = TypeVar("_Job")


class PreparationRefused(Exception):
    """The server refused an entry of a batch; the message says why."""


class Preparation:
    """For a client that repeats calls, as `FeedClient.connect` makes it."""

    def __init__(self, client: FeedClient, plan: Plan, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._progress = progress
        self._names = Population(plan).names

    async def make(self, follows: Mapping[int, Sequence[int]]) -> dict[int, str]:
        """Makes follows and activities, and reads every feed, so that all are warm.

        Returns where each feed's second page begins, if the plan needs it. Raises AioRpcError and
        PreparationRefused.
        """
        edges = [
            FollowRequest(follower=self._names[user], followee=self._names[followee])
            for user, followees in follows.items()
            for followee in followees
        ]
        await self._each("follows", _batches(edges, BATCH), BATCHES, self._follow)
        requests = [
            # All is delivered before anything is measured.
            PublishActivityRequest(activity=self._activity(name, number), wait_for_delivery=True)
            for number in range(self._plan.activities)
            for name in self._names
        ]
        size = min(BATCH, BATCH_BYTES // (self._plan.content_bytes or 1))
        await self._each("activities", _batches(requests, size), BATCHES, self._publish)
        tokens: dict[int, str] = {}
        await self._each("reading", range(self._plan.users), READS, partial(self._read, tokens))
        return tokens if self._plan.mix.get(Kind.DEEPER) else {}

    async def take_away(self) -> None:
        """Ends every follow of the run's users and deletes every activity that they published.

        It looks for them, and so finds those too whose calls got no answer. Raises AioRpcError.
        """
        users = self._names
        await self._each("unfollowing", users, USERS, self._unfollow_all)
        await self._each("deleting", users, USERS, self._delete_all)

    async def _follow(self, batch: Sequence[FollowRequest]) -> None:
        answer = await self._client.follows.BatchFollow(BatchFollowRequest(requests=batch))
        _check(answer.results)

    async def _publish(self, batch: Sequence[PublishActivityRequest]) -> None:
        for tries_left in reversed(range(OVERLOADED_TRIES)):
            answer = await self._client.activities.BatchPublishActivities(
                BatchPublishActivitiesRequest(requests=batch)
            )
            again = []
            for entry, result in zip(batch, answer.results, strict=True):
                if tries_left and reason(result.error) == "FANOUT_OVERLOADED":
                    again.append(entry)
                else:
                    _check([result])
            if not again:
                return
            batch = again
            await asyncio.sleep(OVERLOADED_SECONDS)

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
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _delete_all(self, user: str) -> None:
        request = ListActivitiesRequest(entity=user, page_size=PAGE)
        while True:
            page = await self._client.activities.ListActivities(request)
            await asyncio.gather(*(self._delete(user, one.activity.id) for one in page.activities))
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
        self, step: str, jobs: Sequence[_Job], width: int, work: Callable[[_Job], Awaitable[None]]
    ) -> None:
        """Does all the jobs of a step, some at once, and stops at the first error."""
        self._progress.begin(step, len(jobs))
        waiting = iter(jobs)

        async def worker() -> None:
            for job in waiting:
                await work(job)
                self._progress.advance(1)

        workers = [asyncio.create_task(worker()) for _ in range(width)]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _activity(self, actor: str, number: int) -> Activity:
        thing = Ref(id=f"{self._plan.prefix}:before/{number}")
        content = "x" * self._plan.content_bytes
        return Activity(actor=actor, verb="post", object=thing, content=content)


def _batches(entries: Sequence[_Job], size: int) -> list[Sequence[_Job]]:
    return [entries[first : first + size] for first in range(0, len(entries), size)]


def _check(results: Iterable[FollowResult | PublishActivityResult]) -> None:
    for one in results:
        if one.HasField("error"):
            raise PreparationRefused(error_text(one.error))
