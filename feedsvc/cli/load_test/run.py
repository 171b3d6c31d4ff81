"""A run from its preparation to its clean-up."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.follow_service_pb2 import GetFollowCountsRequest

from feedsvc.cli.connection import explain
from feedsvc.cli.load_test.bulk import PreparationRefused
from feedsvc.cli.load_test.clock import clock
from feedsvc.cli.load_test.plan import Orders, Plan
from feedsvc.cli.load_test.population import Population, reached
from feedsvc.cli.load_test.preparation import Preparation
from feedsvc.cli.load_test.processes import GeneratorFailed, Processes
from feedsvc.cli.load_test.progress import Progress
from feedsvc.cli.load_test.report import status_line
from feedsvc.cli.load_test.results import Results

__all__ = ["GeneratorFailed", "PreparationRefused", "Progress", "run"]

#: Seconds from the order to begin to the first call, so that all processes have the order by then.
HEAD_START = 0.1
#: Seconds to wait for events after the last answer.
LAST_EVENTS_SECONDS = 5.0
#: Seconds between two updates of the bars.
UPDATE_SECONDS = 0.25
#: Seconds between two checks for missing events.
CHECK_SECONDS = 0.05


async def run(client: FeedClient, plan: Plan, progress: Progress, *, keep: bool) -> Results:
    """Prepare the data, make the calls, and remove the data unless ``keep`` is true.

    If the task is cancelled, end the calls and return the results until then. Raise AioRpcError,
    PreparationRefused and GeneratorFailed, after the data is removed.
    """
    # If the server does not answer, the run ends here, before it has data to remove.
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
                {
                    stream: user
                    for stream, user in streams.items()
                    if stream % plan.processes == process
                },
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
                    await asyncio.wait_for(_last_events(results), LAST_EVENTS_SECONDS)
            finally:
                showing.cancel()
    except asyncio.CancelledError:
        interrupted = True
        if task := asyncio.current_task():
            task.uncancel()
    results.end(clock(), interrupted=interrupted)


async def _last_events(results: Results) -> None:
    while results.missing:  # noqa: ASYNC110 (processes set no Event)
        await asyncio.sleep(CHECK_SECONDS)


async def _show(begin: float, results: Results, progress: Progress) -> None:
    """Move the bars of the warm-up and of the counted time."""
    done = begin
    for step, seconds in (
        ("warming up", results.plan.warm_up),
        ("running", results.plan.duration),
    ):
        progress.begin(step, seconds)
        end = done + seconds
        while done < end:
            await asyncio.sleep(UPDATE_SECONDS)
            now = min(max(done, clock()), end)
            progress.advance(now - done, status_line(results, now))
            done = now


async def _clean_up(preparation: Preparation, results: Results, progress: Progress) -> None:
    left_behind = f"follows and activities of {results.plan.prefix}:* remain"
    try:
        await preparation.remove()
    except grpc.aio.AioRpcError as error:
        results.left_behind = True
        why = explain(error, results.plan.server)
        progress.print_line(f"Could not clean up: {why}; {left_behind}")
    except asyncio.CancelledError:
        progress.print_line(f"The clean-up was interrupted: {left_behind}")
        raise
