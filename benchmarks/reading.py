"""Reading: milliseconds that a page of 20 takes, one call after the other.

Readers follow 50, 500 and 2,000 authors with 20 activities each; the authors publish in turn. Ours
is GetFeed over gRPC. S = 16. All sides read the same activities, from the same store, and end with
parsed messages. A turn's value is the median (p50), or the time that 99 % of its calls do not
exceed (p99).

- *Warm*: the newest page of a stored feed, 500 followees; against merging the outboxes at each read
  (`benchmarks.servers.merging`): SMEMBERS of the followees, 500 ZREVRANGE of 20 in one pipeline by
  redis.asyncio, a heap merge, MGET of 20 bodies; in this process, without an RPC, and again behind
  a gRPC server of its own. 1,000 calls a turn; 100 in a quick run.
- *Cold*: the same page when the feed is not stored: its key is deleted before each call, so that
  the call builds the feed; against the warm read. 50 calls a turn; 5 in a quick run.
- *Growth*: a cold read with many followees against one with fewer.
- *Below the floor*: a page that begins where the 800 ids of the warm feed end, so that the call
  reads all outboxes; against the newest page.
"""

from collections.abc import Awaitable, Callable

from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import ListActivitiesRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks.harness.figures import Figure, quantile
from benchmarks.harness.processes import server_process
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from benchmarks.harness.turns import in_turns, nothing, percentiles_in_turns, timed
from benchmarks.load import population
from benchmarks.servers.merging import Merging
from feedsvc.config import Limits

PAGE = 20
#: Activities of each author.
ACTIVITIES = 20
#: Size of the largest page, for walks to the floor.
LARGE_PAGE = 100

Call = Callable[[], Awaitable[object]]


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return figures of warm, cold and deep reads."""
    async with (
        open_stage() as stage,
        server_process("benchmarks.servers.merging", stage.url) as (_, port),
        FeedClient.connect(f"127.0.0.1:{port}") as merging_client,
    ):
        merging = Merging(stage.redis)
        authors = [f"author:{number}" for number in range(max(scale.followees))]
        await _publish(stage, merging, authors, progress)
        for count in scale.followees:
            edges = [(_reader(count), author) for author in authors[:count]]
            await population.follow(stage.client, edges, progress)
            await merging.follow(_reader(count), authors[:count])
        return [
            *await _warm(stage, merging, merging_client, scale, progress),
            *await _cold(stage, scale, progress),
            await _deep(stage, scale, progress),
        ]


def _reader(followees: int) -> str:
    return f"reader:{followees}"


async def _publish(stage: Stage, merging: Merging, authors: list[str], progress: Progress) -> None:
    """Give both sides the same activities, with the ids that the service chose."""
    await population.publish_all(
        stage.client,
        [population.activity(author, number) for number in range(ACTIVITIES) for author in authors],
        progress,
    )
    for author in authors:
        request = ListActivitiesRequest(entity=author, page_size=ACTIVITIES)
        outbox = (await stage.client.activities.ListActivities(request)).activities
        await merging.publish([viewed.activity for viewed in outbox])


async def _warm(
    stage: Stage, merging: Merging, merging_client: FeedClient, scale: Scale, progress: Progress
) -> list[Figure]:
    followees = scale.followees[1]
    request = GetFeedRequest(user=_reader(followees), page_size=PAGE)
    page = (await stage.client.feeds.GetFeed(request)).page
    expected = [item.activity.activity for item in page.items]
    if await merging.page(request.user, PAGE) != expected:
        raise RuntimeError("merged outboxes differ from the feed")

    def side(call: Call) -> Callable[[], Awaitable[list[float]]]:
        return lambda: timed(call, scale.calls)

    times = await percentiles_in_turns(
        {
            "ours": side(lambda: stage.client.feeds.GetFeed(request)),
            "merged": side(lambda: merging.page(request.user, PAGE)),
            "served": side(lambda: merging_client.feeds.GetFeed(request)),
        },
        scale.rounds,
        progress,
        title="warm reads",
    )
    return [
        Figure(
            f"page of a warm feed, {followees} followees, {share}{note}",
            "ms",
            against,
            values["ours"],
            values[side_name],
        )
        for side_name, note, against in (
            ("served", "", "merging the outboxes at each read, over gRPC too"),
            ("merged", ", alone over gRPC", "merging the outboxes at each read, without an RPC"),
        )
        for share, values in times.items()
    ]


async def _cold(stage: Stage, scale: Scale, progress: Progress) -> list[Figure]:
    def cold(user: str) -> Callable[[], Awaitable[float]]:
        async def make_cold() -> None:
            await stage.redis.delete(stage.feed(user))

        return lambda: _median(_page(stage, user), scale.cold_calls, make_cold)

    sides = {}
    for count in scale.followees:
        sides[f"cold {count}"] = cold(_reader(count))
        sides[f"warm {count}"] = _warm_side(stage, count, scale)
    values = await in_turns(sides, scale.rounds, progress, title="cold reads")
    few, usual, greatest = scale.followees
    return [
        *(
            Figure(
                f"page of a cold feed, {count:,} followees",
                "ms",
                "the same feed warm",
                values[f"cold {count}"],
                values[f"warm {count}"],
            )
            for count in scale.followees
        ),
        *(
            Figure(
                f"page of a cold feed, {larger:,} followees, growth",
                "ms",
                f"a cold feed of {smaller:,} followees",
                values[f"cold {larger}"],
                values[f"cold {smaller}"],
                f"<= {larger / smaller:g}",
            )
            for larger, smaller in ((usual, few), (greatest, usual))
        ),
    ]


def _warm_side(stage: Stage, followees: int, scale: Scale) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        call = _page(stage, _reader(followees))
        await call()  # the cold side may have had the last turn
        return await _median(call, scale.cold_calls)

    return turn


async def _deep(stage: Stage, scale: Scale, progress: Progress) -> Figure:
    user = _reader(scale.followees[1])
    walked, token = 0, ""
    async for page in stage.client.pages(user, page_size=LARGE_PAGE):
        walked += len(page.items)
        token = page.next_page_token
        if walked >= Limits().feed_cap:
            break
    if not token:
        raise RuntimeError("the feed ends before its floor")
    values = await in_turns(
        {
            "deep": lambda: _median(_page(stage, user, token), scale.cold_calls),
            "warm": _warm_side(stage, scale.followees[1], scale),
        },
        scale.rounds,
        progress,
        title="reads below the floor",
    )
    return Figure(
        f"page below the floor, {scale.followees[1]} followees",
        "ms",
        "the newest page of the same feed",
        values["deep"],
        values["warm"],
    )


def _page(stage: Stage, user: str, token: str = "") -> Call:
    request = GetFeedRequest(user=user, page_size=PAGE, page_token=token)
    return lambda: stage.client.feeds.GetFeed(request)


async def _median(call: Call, count: int, before: Call = nothing) -> float:
    return quantile(await timed(call, count, before), 0.5)
