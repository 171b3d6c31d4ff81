"""``feedsvc demo``: the whole service in twenty seconds, on a small sample of its own."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import click
import grpc
import grpc.aio
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import Activity
from activityfeed.v1.activity_service_pb2 import (
    BatchPublishActivitiesRequest,
    DeleteActivityRequest,
    PublishActivityRequest,
)
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest, FollowRequest
from activityfeed.v1.subscription_service_pb2 import FeedEvent, SubscribeFeedResponse
from rich.console import Console
from rich.text import Text

from feedsvc.cli.connection import explain
from feedsvc.cli.exit_statuses import INTERRUPTED
from feedsvc.cli.importing.formats import ActivityRow, canonical
from feedsvc.cli.rendering import activity_line, console, entity, item_line, print_lines
from feedsvc.cli.tail import event_line
from feedsvc.config import Config
from feedsvc.embedded import EmbeddedStoreError
from feedsvc.server import Server

#: The user whose feed the demo shows.
USER = "ada"
#: Number of activities, the last ones of the sample, that are published while the user looks on.
LIVE = 14
#: Age in seconds of the sample's first activity.
OLDEST_AGE = 3.0 * 86_400
#: Age of each further activity, as a part of the age of the activity before it.
AGE_RATIO = 0.75
#: External ids of the activity that is deleted, and of the activity after which that happens.
DELETED, DELETED_AFTER = "demo-31", "demo-33"
#: Entity that the user follows, and the external id of the activity after which that happens.
FOLLOWED, FOLLOWED_AFTER = "repo:moth", "demo-36"
#: Items of the page that is shown at the end.
PAGE_SIZE = 12

#: Seconds between two live activities.
LIVE_PAUSE = 0.7
#: Seconds between two parts of the demo.
PART_PAUSE = 1.2
#: Seconds within which an activity must come through the stream.
ARRIVAL_SECONDS = 10.0

#: Commands to try next, and what they are for.
NEXT_COMMANDS = (
    ("feedsvc serve", "a server that stays; data in ./data"),
    ("feedsvc follow me repo:kettle", ""),
    ("feedsvc tail me", "in another terminal"),
    ("feedsvc publish you push repo:kettle --to repo:kettle", ""),
    ("feedsvc import --help", "your own follows and activities"),
)
#: Column in which the explanations of commands begin.
EXPLANATION_COLUMN = 25


@click.command(short_help="Show the service at work, in 20 seconds.")
@click.option("--fast", is_flag=True, help="Show all without pauses, for tests.")
def demo(*, fast: bool) -> None:
    """Show the service at work: a server, its store and some traffic, on this machine.

    The demo needs no network and leaves nothing behind.
    """
    try:
        asyncio.run(_until_signal(_Demo(fast=fast).run()))
    except EmbeddedStoreError as error:
        raise click.ClickException(str(error)) from None
    except grpc.aio.AioRpcError as error:
        raise click.ClickException(explain(error, "the demo's own address")) from None
    except TimeoutError:
        raise click.ClickException(
            f"nothing came through the stream for {ARRIVAL_SECONDS:g} s: is this machine very busy?"
        ) from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(INTERRUPTED)


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and cancel it at the first SIGINT or SIGTERM.

    Later signals change nothing: a second Ctrl-C must not leave the store or its folder behind.
    Raise CancelledError if the work was cancelled.
    """
    task = asyncio.create_task(work)

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await task


class _Demo:
    def __init__(self, *, fast: bool) -> None:
        self._fast = fast
        self._out: Console = console()
        self._shown: dict[str, Activity] = {}
        """Activities that the stream has brought, by id."""

    async def run(self) -> None:
        self._print_prose(
            "An activity feed: the activities of all that you follow, newest first, and live."
        )
        self._out.print()
        follows, activities = _sample()
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="feedsvc-demo-") as folder:
            config = Config(port=0, data_dir=Path(folder), drain_seconds=1)
            async with (
                Server(config) as server,
                FeedClient.connect(f"{config.host}:{server.port}") as client,
            ):
                self._print_step(
                    "server",
                    f"on {config.host}:{server.port}, with a store of its own, "
                    f"up in {time.monotonic() - start:.1f} s",
                )
                await self._make_history(client, follows, activities[:-LIVE])
                await self._show_live_feed(client, follows, activities[-LIVE:])
                await self._show_page(client)
        await self._pause(PART_PAUSE)
        self._print_next_commands()

    async def _make_history(
        self, client: FeedClient, follows: list[FollowRequest], activities: list[Activity]
    ) -> None:
        people = {follow.follower for follow in follows}
        repos = {follow.followee for follow in follows} - people
        await client.follows.BatchFollow(BatchFollowRequest(requests=follows))
        self._print_step(
            "follows", f"{len(follows)} edges between {len(people)} people and {len(repos)} repos"
        )
        age, now = OLDEST_AGE, time.time()
        for activity in activities:
            activity.publish_time.FromMicroseconds(int((now - age) * 1e6))
            age *= AGE_RATIO
        requests = [PublishActivityRequest(activity=activity) for activity in activities]
        batch = BatchPublishActivitiesRequest(requests=requests)
        await client.activities.BatchPublishActivities(batch)
        self._print_step("history", f"{len(activities)} activities of the last three days")
        await self._pause(PART_PAUSE)

    async def _show_live_feed(
        self, client: FeedClient, follows: list[FollowRequest], activities: list[Activity]
    ) -> None:
        followees = {follow.followee for follow in follows if follow.follower == USER}
        self._print_heading(f"{USER}'s feed, live", "SubscribeFeed")
        latencies = []
        async with aclosing(client.subscribe(USER)) as messages:
            await anext(messages)  # the stream has started
            for activity in activities:
                await self._pause(LIVE_PAUSE)
                start = time.monotonic()
                request = PublishActivityRequest(activity=activity)
                published = (await client.activities.PublishActivity(request)).activity
                if followees.isdisjoint({activity.actor, *activity.to}):
                    line = activity_line(published)
                    print_lines(self._out, Text(f"{line.plain}   (not for {USER})", style="dim"))
                else:
                    await self._show_events_until(messages, "added", published.id)
                    latencies.append(time.monotonic() - start)
                if activity.external_id == DELETED_AFTER:
                    await self._delete_activity(client, messages)
                if activity.external_id == FOLLOWED_AFTER:
                    await self._pause(LIVE_PAUSE)
                    followees.add(FOLLOWED)
                    await client.follows.Follow(FollowRequest(follower=USER, followee=FOLLOWED))
                    await self._show_events_until(messages, "source_changed")
        self._out.print()
        self._print_prose(
            f"{len(latencies)} activities; from publish to screen "
            f"{median(latencies) * 1000:.1f} ms (median)",
            style="dim",
        )
        await self._pause(PART_PAUSE)

    async def _delete_activity(
        self, client: FeedClient, messages: AsyncIterator[SubscribeFeedResponse]
    ) -> None:
        await self._pause(LIVE_PAUSE)
        (deleted,) = (
            activity for activity in self._shown.values() if activity.external_id == DELETED
        )
        await client.activities.DeleteActivity(
            DeleteActivityRequest(id=deleted.id, actor=deleted.actor)
        )
        await self._show_events_until(messages, "removed", deleted.id)

    async def _show_events_until(
        self, messages: AsyncIterator[SubscribeFeedResponse], kind: str, activity_id: str = ""
    ) -> None:
        """Show events up to one of this kind and activity. Raise TimeoutError if none comes."""
        async with asyncio.timeout(ARRIVAL_SECONDS):
            async for message in messages:
                for event in message.events.events:
                    self._show_event(event)
                    if event.WhichOneof("event") != kind:
                        continue
                    if activity_id in {
                        event.added.activity.activity.id,
                        event.removed.item_id,
                    }:
                        return

    def _show_event(self, event: FeedEvent) -> None:
        if event.HasField("added"):
            self._shown[event.added.item_id] = event.added.activity.activity
        if event.HasField("removed"):
            deleted = self._shown.pop(event.removed.item_id)
            line = Text(" " * 14).append_text(entity(deleted.actor))
            print_lines(self._out, line.append(f" took back “{deleted.content}”"))
        else:
            print_lines(self._out, event_line(USER, event))

    async def _show_page(self, client: FeedClient) -> None:
        self._print_heading(f"{USER}'s feed, the page below", "GetFeed")
        request = GetFeedRequest(user=USER, page_size=len(self._shown))
        newest = (await client.feeds.GetFeed(request)).page
        request = GetFeedRequest(user=USER, page_size=PAGE_SIZE, page_token=newest.next_page_token)
        page = (await client.feeds.GetFeed(request)).page
        for item in page.items:
            print_lines(self._out, item_line(item))

    def _print_next_commands(self) -> None:
        self._print_heading("Your turn", "")
        activate = Path(sys.argv[0]).with_name("activate")
        first_commands: tuple[tuple[str, str], ...] = ()
        if not shutil.which("feedsvc") and activate.exists():
            first_commands = ((f". {os.path.relpath(activate)}", "so that feedsvc is found"),)
        for command, explanation in (*first_commands, *NEXT_COMMANDS):
            width = EXPLANATION_COLUMN - 2 if explanation else 0
            line = Text(f"  {command:<{width}}").append(explanation, style="dim")
            print_lines(self._out, line, indent=max(EXPLANATION_COLUMN, len(command) + 3))
        self._out.print()
        self._print_prose(
            "The README has the rest. What you saw is gone: it lived in a temporary directory.",
            style="dim",
        )

    def _print_prose(self, text: str, style: str = "") -> None:
        print_lines(self._out, text, indent=0, style=style)

    def _print_step(self, name: str, result: str) -> None:
        print_lines(self._out, Text(f"{name:>12}  ", style="green").append(result, style="default"))

    def _print_heading(self, title: str, rpc: str) -> None:
        self._out.print()
        line = Text(title, style="bold")
        self._out.print(line.append(f"  {rpc}", style="dim") if rpc else line)

    async def _pause(self, seconds: float) -> None:
        if not self._fast:
            await asyncio.sleep(seconds)


def _sample() -> tuple[list[FollowRequest], list[Activity]]:
    follows: list[FollowRequest] = []
    activities: list[Activity] = []
    for line in files("feedsvc.cli").joinpath("demo.jsonl").read_bytes().splitlines():
        match canonical(line):
            case ActivityRow(build=build):
                activities.append(build())
            case FollowRequest() as follow:
                follows.append(follow)
    return follows, activities
