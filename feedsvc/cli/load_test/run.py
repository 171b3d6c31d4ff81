"""A run from its preparation to its clean-up."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.follow_service_pb2 import GetFollowCountsRequest

from feedsvc.cli.connection import explain
from feedsvc.cli.load_test.bulk import PreparationRefused
from feedsvc.cli.load_test.clock import clock
from feedsvc.cli.load_test.interruption import Interruption, print_left_behind
from feedsvc.cli.load_test.plan import Orders, Plan
from feedsvc.cli.load_test.population import Population, reached
from feedsvc.cli.load_test.preparation import Preparation
from feedsvc.cli.load_test.processes import GeneratorFailed, Processes
from feedsvc.cli.load_test.progress import Progress
from feedsvc.cli.load_test.report import status_line
from feedsvc.cli.load_test.results import Results

__all__ = [
    "GeneratorFailed",
    "Interruption",
    "PreparationRefused",
    "Progress",
    "print_left_behind",
    "remove",
    "run",
]

#: Seconds from the order to begin to the first call, so that all processes have the order by then.
HEAD_START = 0.1
#: Seconds to wait for events after the last answer.
LAST_EVENTS_SECONDS = 5.0
#: Seconds between two updates of the bars.
UPDATE_SECONDS = 0.25
#: Seconds between two checks for missing events.
CHECK_SECONDS = 0.05


async def run(
    client: FeedClient, plan: Plan, progress: Progress, interruption: Interruption, *, keep: bool
) -> Results:
    """Prepare the data, make the calls, and remove the data unless ``keep`` is true.

    A signal ends the preparation or the calls; then return the results until then. Raise
    AioRpcError, PreparationRefused and GeneratorFailed, after the data is removed.
    """
    # If the server does not answer, the run ends here, before it has data to remove.
    await client.follows.GetFollowCounts(GetFollowCountsRequest(entity=plan.prefix))
    population = Population(plan)
    follows, streams = population.follows(), population.streams()
    results = Results(plan, reached(follows, streams))
    preparation = Preparation(client, plan, progress)
    interruption.has_data = True
    try:
        work = _prepare_and_measure(preparation, follows, streams, results, progress)
        await interruption.until_signal(asyncio.create_task(work))
    finally:
        results.end(clock(), interrupted=bool(interruption.status))
        if not keep:
            await _clean_up(preparation, results, progress)
            interruption.has_data = results.left_behind
    return results


async def remove(client: FeedClient, plan: Plan, progress: Progress) -> None:
    """Remove what an earlier run left behind. Raise AioRpcError."""
    await Preparation(client, plan, progress).remove()


async def _prepare_and_measure(
    preparation: Preparation,
    follows: Mapping[int, Sequence[int]],
    streams: Mapping[int, int],
    results: Results,
    progress: Progress,
) -> None:
    plan = results.plan
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
    progress.begin("starting", len(orders))
    async with Processes(orders, results.hear) as processes:
        progress.advance(len(orders))
        begin = clock() + HEAD_START
        results.begin(begin)
        processes.begin(begin)
        showing = asyncio.create_task(_show(begin, results, progress))
        try:
            await processes.finished()
        finally:
            showing.cancel()
        progress.finish(status_line(results, clock()))
        with suppress(TimeoutError):
            await asyncio.wait_for(_last_events(results, progress), LAST_EVENTS_SECONDS)


async def _last_events(results: Results, progress: Progress) -> None:
    missing = results.missing
    if missing:
        progress.begin("last events", missing)
    while missing:
        await asyncio.sleep(CHECK_SECONDS)  # processes set no Event
        progress.advance(missing - results.missing)
        missing = results.missing


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
    try:
        if results.interrupted:
            await preparation.remove_all()
        else:
            await preparation.remove()
    except grpc.aio.AioRpcError as error:
        results.left_behind = True
        progress.print_line(f"Could not clean up: {explain(error, results.plan.server)}")
        print_left_behind(results.plan, progress)
