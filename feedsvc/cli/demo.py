"""``feedsvc demo``: the whole service in twenty seconds, on a small sample of its own."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path
from statistics import median

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

from feedsvc.cli.connection import INTERRUPTED, explain
from feedsvc.cli.read import event_line
from feedsvc.cli.rows import Pending, canonical
from feedsvc.cli.show import activity_line, console, entity, item_line
from feedsvc.config import Config
from feedsvc.embedded import EmbeddedStoreError
from feedsvc.server import Server

#: Whose feed is shown.
USER = "ada"
#: The last activities of the sample are published while one looks; those before lie in the past.
LIVE = 14
#: Seconds since the sample's first activity, and how much younger each is than the one before.
OLDEST, YOUNGER = 3.0 * 86_400, 0.75
#: What else happens meanwhile: this activity is taken back after that one ...
DELETED, DELETED_AFTER = "demo-31", "demo-33"
#: ... and this is followed after that one.
FOLLOWED, FOLLOWED_AFTER = "repo:moth", "demo-36"
#: Items of the page that is shown at the end.
PAGE = 12

#: Seconds between two live activities, and between two parts.
BEAT, PART = 0.7, 1.2
#: Seconds until an activity must have come through the stream.
ARRIVES = 10.0

NEXT = (
    ("feedsvc serve", "a server that stays, with its data in ./data"),
    ("feedsvc follow me repo:kettle", ""),
    ("feedsvc tail me", "in another terminal"),
    ("feedsvc publish you push repo:kettle --to repo:kettle", ""),
    ("feedsvc import --help", "bring your own follows and activities"),
)
#: Where the words after a command begin.
NEXT_WIDTH = 36


@click.command(short_help="Show what it does, in 20 seconds.")
@click.option("--fast", is_flag=True, help="Without pauses, for tests.")
def demo(*, fast: bool) -> None:
    """Show what this is: a server, its store and some traffic, on this machine.

    It needs no network and leaves nothing behind.
    """
    try:
        asyncio.run(_Demo(fast=fast).run())
    except EmbeddedStoreError as error:
        raise click.ClickException(str(error)) from None
    except grpc.aio.AioRpcError as error:
        raise click.ClickException(explain(error, "the demo's own address")) from None
    except TimeoutError:
        raise click.ClickException(f"nothing came through the stream for {ARRIVES:g} s") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


class _Demo:
    def __init__(self, *, fast: bool) -> None:
        self._fast = fast
        self._out: Console = console()
        self._shown: dict[str, Activity] = {}
        """What the stream has brought, by id."""

    async def run(self) -> None:
        self._out.print("An activity feed: what those you follow did, newest first, and live.\n")
        follows, activities = _sample()
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="feedsvc-demo-") as folder:
            config = Config(port=0, data_dir=Path(folder), drain_seconds=1)
            async with (
                Server(config) as server,
                FeedClient.connect(f"{config.host}:{server.port}") as client,
            ):
                self._did(
                    "server",
                    f"on {config.host}:{server.port}, with a store of its own, "
                    f"up in {time.monotonic() - begun:.1f} s",
                )
                await self._history(client, follows, activities[:-LIVE])
                await self._live(client, follows, activities[-LIVE:])
                await self._page(client)
        await self._pause(PART)
        self._goodbye()

    async def _history(
        self, client: FeedClient, follows: list[FollowRequest], activities: list[Activity]
    ) -> None:
        people = {one.follower for one in follows}
        others = {one.followee for one in follows} - people
        await client.follows.BatchFollow(BatchFollowRequest(requests=follows))
        self._did(
            "follows", f"{len(follows)} edges between {len(people)} people and {len(others)} repos"
        )
        age, now = OLDEST, time.time()
        for activity in activities:
            activity.publish_time.FromMicroseconds(int((now - age) * 1e6))
            age *= YOUNGER
        requests = [PublishActivityRequest(activity=one) for one in activities]
        batch = BatchPublishActivitiesRequest(requests=requests)
        await client.activities.BatchPublishActivities(batch)
        self._did("history", f"{len(activities)} activities of the last three days")
        await self._pause(PART)

    async def _live(
        self, client: FeedClient, follows: list[FollowRequest], activities: list[Activity]
    ) -> None:
        followed = {one.followee for one in follows if one.follower == USER}
        self._head(f"{USER}'s feed, live", "SubscribeFeed")
        took = []
        async with aclosing(client.subscribe(USER)) as messages:
            await anext(messages)  # it has started
            for activity in activities:
                await self._pause(BEAT)
                begun = time.monotonic()
                request = PublishActivityRequest(activity=activity)
                published = (await client.activities.PublishActivity(request)).activity
                if followed.isdisjoint({activity.actor, *activity.to}):
                    line = activity_line(published)
                    self._out.print(Text(f"{line.plain}   (not for {USER})", style="dim"))
                else:
                    await self._until(messages, "added", published.id)
                    took.append(time.monotonic() - begun)
                if activity.external_id == DELETED_AFTER:
                    await self._take_back(client, messages)
                if activity.external_id == FOLLOWED_AFTER:
                    await self._pause(BEAT)
                    followed.add(FOLLOWED)
                    await client.follows.Follow(FollowRequest(follower=USER, followee=FOLLOWED))
                    await self._until(messages, "source_changed")
        self._out.print(
            f"\n{len(took)} activities; from publish to screen {median(took) * 1000:.1f} ms "
            "(median)",
            style="dim",
        )
        await self._pause(PART)

    async def _take_back(
        self, client: FeedClient, messages: AsyncIterator[SubscribeFeedResponse]
    ) -> None:
        await self._pause(BEAT)
        (regretted,) = (one for one in self._shown.values() if one.external_id == DELETED)
        await client.activities.DeleteActivity(
            DeleteActivityRequest(id=regretted.id, actor=regretted.actor)
        )
        await self._until(messages, "removed", regretted.id)

    async def _until(
        self, messages: AsyncIterator[SubscribeFeedResponse], kind: str, activity_id: str = ""
    ) -> None:
        """Shows what the stream brings, until it has brought this."""
        async with asyncio.timeout(ARRIVES):
            async for message in messages:
                for event in message.events.events:
                    self._show(event)
                    if event.WhichOneof("event") != kind:
                        continue
                    if activity_id in {
                        event.added.activity.activity.id,
                        event.removed.item_id,
                    }:
                        return

    def _show(self, event: FeedEvent) -> None:
        if event.HasField("added"):
            self._shown[event.added.item_id] = event.added.activity.activity
        if event.HasField("removed"):
            regretted = self._shown.pop(event.removed.item_id)
            line = Text(" " * 14).append_text(entity(regretted.actor))
            self._out.print(line.append(f" took back “{regretted.content}”"))
        else:
            self._out.print(event_line(USER, event))

    async def _page(self, client: FeedClient) -> None:
        self._head(f"{USER}'s feed, the page below", "GetFeed")
        request = GetFeedRequest(user=USER, page_size=len(self._shown))
        newest = (await client.feeds.GetFeed(request)).page
        request = GetFeedRequest(user=USER, page_size=PAGE, page_token=newest.next_page_token)
        page = (await client.feeds.GetFeed(request)).page
        for item in page.items:
            self._out.print(item_line(item))

    def _goodbye(self) -> None:
        self._head("Your turn", "")
        activate = Path(sys.argv[0]).with_name("activate")
        first: tuple[tuple[str, str], ...] = ()
        if not shutil.which("feedsvc") and activate.exists():
            first = ((f". {os.path.relpath(activate)}", "so that feedsvc is found"),)
        for command, why in (*first, *NEXT):
            self._out.print(
                Text(f"  {command:<{NEXT_WIDTH}}" if why else f"  {command}").append(
                    why, style="dim"
                )
            )
        self._out.print(
            "\nThe README has the rest. What you saw is gone: it lived in a temporary directory.",
            style="dim",
        )

    def _did(self, what: str, result: str) -> None:
        self._out.print(Text(f"{what:>12}  ", style="green").append(result, style="default"))

    def _head(self, title: str, call: str) -> None:
        line = Text("\n").append(title, style="bold")
        self._out.print(line.append(f"  {call}", style="dim") if call else line)

    async def _pause(self, seconds: float) -> None:
        if not self._fast:
            await asyncio.sleep(seconds)


def _sample() -> tuple[list[FollowRequest], list[Activity]]:
    follows: list[FollowRequest] = []
    activities: list[Activity] = []
    for line in files("feedsvc.cli").joinpath("demo.jsonl").read_bytes().splitlines():
        match canonical(line):
            case Pending(build=build):
                activities.append(build())
            case FollowRequest() as follow:
                follows.append(follow)
    return follows, activities
