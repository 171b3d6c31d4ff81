"""A run from its preparation to its clean-up."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.follow_service_pb2 import GetFollowCountsRequest

from feedsvc.cli.connection import explain
from feedsvc.cli.load_test.batches import clock
from feedsvc.cli.load_test.plan import Orders, Plan
from feedsvc.cli.load_test.population import Population, reached
from feedsvc.cli.load_test.preparation import Preparation, PreparationRefused
from feedsvc.cli.load_test.processes import GeneratorFailed, Processes
from feedsvc.cli.load_test.progress import Progress
from feedsvc.cli.load_test.report import live
from feedsvc.cli.load_test.results import Results

__all__ = ["GeneratorFailed", "PreparationRefused", "Progress", "run"]

#: Seconds from the order to begin to the first call, so that all processes have heard it by then.
HEAD_START = 0.1
#: Seconds that events may still take when the last call has been answered.
LAST_EVENTS = 5.0
#: Seconds between two looks at how the run gets on.
LOOK = 0.25


async def run(client: FeedClient, plan: Plan, progress: Progress, *, keep: bool) -> Results:
    """Prepares, calls, and cleans up unless told to ``keep`` the data.

    Cancelling it ends the calls: what was measured until then is returned. Raises AioRpcError,
    PreparationRefused and GeneratorFailed, after cleaning up.
    """
    # Found out at once, and before there is anything to clean up.
    await client.follows.GetFollowCounts(GetFollowCountsRequest(entity=plan.prefix))
    population = Population(plan)
    follows, streams = population.follows(), population.streams()
    results = Results(plan, reached(follows, streams))
    preparation = Preparation(client, plan, progress)
    try:
        page_tokens = await preparation.make(follows)
        orders = [
            Orders(
                plan,
                process,
                {n: user for n, user in streams.items() if n % plan.processes == process},
                page_tokens,
            )
            for process in range(plan.processes)
        ]
        await _measure(orders, results, progress)
    finally:
        if not keep:
            await _clean_up(preparation, results, progress)
    return results


async def _measure(orders: Sequence[Orders], results: Results, progress: Progress) -> None:
    interrupted = False
    try:
        progress.begin("starting", len(orders))
        async with Processes(orders, results.hear) as processes:
            progress.advance(len(orders))
            begin = clock() + HEAD_START
            results.begin(begin)
            processes.begin(begin)
            showing = asyncio.create_task(_show(begin, results, progress))
            try:
                await processes.finished()
                with suppress(TimeoutError):
                    await asyncio.wait_for(_last_events(results), LAST_EVENTS)
            finally:
                showing.cancel()
    except asyncio.CancelledError:
        interrupted = True
        if task := asyncio.current_task():
            task.uncancel()
    results.end(clock(), interrupted=interrupted)


async def _last_events(results: Results) -> None:
    while results.missing:  # noqa: ASYNC110 (processes set no Event)
        await asyncio.sleep(LOOK / 5)


async def _show(begin: float, results: Results, progress: Progress) -> None:
    """Moves the bars of the warm-up and of the counted time."""
    done = begin
    for step, seconds in (
        ("warming up", results.plan.warm_up),
        ("running", results.plan.duration),
    ):
        progress.begin(step, seconds)
        end = done + seconds
        while done < end:
            await asyncio.sleep(LOOK)
            now = min(max(done, clock()), end)
            progress.advance(now - done, live(results, now))
            done = now


async def _clean_up(preparation: Preparation, results: Results, progress: Progress) -> None:
    left = f"{results.plan.prefix}:* is left"
    try:
        await preparation.take_away()
    except grpc.aio.AioRpcError as error:
        results.left = True
        progress.complain(f"Could not clean up, {left}: {explain(error, results.plan.server)}")
    except asyncio.CancelledError:
        progress.complain(f"Clean-up interrupted, {left}")
        raise
