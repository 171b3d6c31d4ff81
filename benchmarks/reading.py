"""Reading: milliseconds that a page of 20 takes, one call after the other.

Readers follow 50, 500 and 2,000 authors, who have 20 activities each, published in turn. Ours is
GetFeed over gRPC. S = 16. All sides read the same activities, from the same store, and end with
parsed messages; a turn's value is the median (p50), or what 99 % of its calls do not exceed (p99).

- *Warm*: the newest page of a stored feed, 500 followees; against merging the outboxes at each
  read (`merging.py`): SMEMBERS of the followees, 500 ZREVRANGE of 20 in one pipeline by
  redis.asyncio, a heap merge, MGET of 20 bodies; in this process, without an RPC, and again behind
  a gRPC server of its own. 1,000 calls a turn; 100 in a quick run.
- *Cold*: the same page when nothing is stored of the feed, whose key is deleted before each call,
  and so materialising it; against the warm read. 50 calls a turn; 5 in a quick run.
- *Growth*: a cold read with many followees against one with fewer.
- *Below the floor*: a page that begins where the stored part of 800 ends, so that all outboxes are
  asked; against the newest page.
"""

from collections.abc import Awaitable, Callable

from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import ListActivitiesRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest

from benchmarks import population
from benchmarks.figures import Figure, quantile
from benchmarks.merging import Merging
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, process, stage
from benchmarks.turns import in_turns, nothing, timed
from feedsvc.config import Limits

PAGE = 20
#: Activities of each author.
ACTIVITIES = 20
#: The largest page, for walking to the floor.
LARGE_PAGE = 100

Call = Callable[[], Awaitable[object]]


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Figures of warm, cold and deep reads."""
    async with (
        stage() as on,
        process("benchmarks.merging", on.url) as (_, port),
        FeedClient.connect(f"127.0.0.1:{port}") as merging_client,
    ):
        merging = Merging(on.redis)
        authors = [f"author:{number}" for number in range(max(scale.followees))]
        await _publish(on, merging, authors, report)
        for count in scale.followees:
            edges = [(_reader(count), author) for author in authors[:count]]
            await population.follow(on.client, edges, report)
            await merging.follow(_reader(count), authors[:count])
        return [
            *await _warm(on, merging, merging_client, scale, report),
            *await _cold(on, scale, report),
            await _deep(on, scale, report),
        ]


def _reader(followees: int) -> str:
    return f"reader:{followees}"


async def _publish(on: Stage, merging: Merging, authors: list[str], report: Progress) -> None:
    """On both sides the same activities, which ours gives their ids."""
    await population.publish_all(
        on.client,
        [population.activity(author, number) for number in range(ACTIVITIES) for author in authors],
        report,
    )
    for author in authors:
        request = ListActivitiesRequest(entity=author, page_size=ACTIVITIES)
        outbox = (await on.client.activities.ListActivities(request)).activities
        await merging.publish([viewed.activity for viewed in outbox])


async def _warm(
    on: Stage, merging: Merging, merging_client: FeedClient, scale: Scale, report: Progress
) -> list[Figure]:
    followees = scale.followees[1]
    request = GetFeedRequest(user=_reader(followees), page_size=PAGE)
    page = (await on.client.feeds.GetFeed(request)).page
    expected = [item.activity.activity for item in page.items]
    if await merging.page(request.user, PAGE) != expected:
        raise RuntimeError("merged outboxes differ from the feed")

    slow: dict[str, list[float]] = {"ours": [], "merged": [], "served": []}

    def side(name: str, call: Call) -> Callable[[], Awaitable[float]]:
        async def turn() -> float:
            times = await timed(call, scale.calls)
            slow[name].append(quantile(times, 0.99))
            return quantile(times, 0.5)

        return turn

    values = await in_turns(
        {
            "ours": side("ours", lambda: on.client.feeds.GetFeed(request)),
            "merged": side("merged", lambda: merging.page(request.user, PAGE)),
            "served": side("served", lambda: merging_client.feeds.GetFeed(request)),
        },
        scale.rounds,
        report,
        what="warm reads",
    )
    # The first is that of the turns that warm up.
    tails = {name: tuple(times[1:]) for name, times in slow.items()}
    return [
        Figure(
            f"page of a warm feed, {followees} followees, {share}{note}",
            "ms",
            against,
            of["ours"],
            of[name],
        )
        for name, note, against in (
            ("served", "", "merging the outboxes at each read, over gRPC too"),
            ("merged", ", alone over gRPC", "merging the outboxes at each read, without an RPC"),
        )
        for share, of in (("p50", values), ("p99", tails))
    ]


async def _cold(on: Stage, scale: Scale, report: Progress) -> list[Figure]:
    def cold(user: str) -> Callable[[], Awaitable[float]]:
        async def forget() -> None:
            await on.redis.delete(on.feed(user))

        return lambda: _median(_page(on, user), scale.cold_calls, forget)

    sides = {}
    for count in scale.followees:
        sides[f"cold {count}"] = cold(_reader(count))
        sides[f"warm {count}"] = _warm_side(on, count, scale)
    values = await in_turns(sides, scale.rounds, report, what="cold reads")
    few, usual, many = scale.followees
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
                f"page of a cold feed, {more:,} followees, growth",
                "ms",
                f"a cold feed of {less:,} followees",
                values[f"cold {more}"],
                values[f"cold {less}"],
                f"<= {more / less:g}",
            )
            for more, less in ((usual, few), (many, usual))
        ),
    ]


def _warm_side(on: Stage, followees: int, scale: Scale) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        call = _page(on, _reader(followees))
        await call()  # the cold side may have been the last
        return await _median(call, scale.cold_calls)

    return turn


async def _deep(on: Stage, scale: Scale, report: Progress) -> Figure:
    user = _reader(scale.followees[1])
    walked, token = 0, ""
    async for page in on.client.pages(user, page_size=LARGE_PAGE):
        walked += len(page.items)
        token = page.next_page_token
        if walked >= Limits().feed_cap:
            break
    if not token:
        raise RuntimeError("the feed ends before its floor")
    values = await in_turns(
        {
            "deep": lambda: _median(_page(on, user, token), scale.cold_calls),
            "warm": _warm_side(on, scale.followees[1], scale),
        },
        scale.rounds,
        report,
        what="reads below the floor",
    )
    return Figure(
        f"page below the floor, {scale.followees[1]} followees",
        "ms",
        "the newest page of the same feed",
        values["deep"],
        values["warm"],
    )


def _page(on: Stage, user: str, token: str = "") -> Call:
    request = GetFeedRequest(user=user, page_size=PAGE, page_token=token)
    return lambda: on.client.feeds.GetFeed(request)


async def _median(call: Call, count: int, before: Call = nothing) -> float:
    return quantile(await timed(call, count, before), 0.5)
