"""``feedsvc feed`` and ``feedsvc tail``."""

from collections.abc import Iterator
from contextlib import aclosing

import click
import grpc
import grpc.aio
from activityfeed import FeedClient, reason
from activityfeed.v1.feed_pb2 import PAGE_END_RETENTION, FeedPage
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_RESET,
    FeedEvent,
    SubscribeFeedResponse,
)
from google.protobuf.json_format import MessageToJson
from rich.text import Text

from feedsvc.cli.connection import explain, json_option, server_option, talk
from feedsvc.cli.show import console, entity, item_line, plain


@click.command(short_help="Print the feed of USER.")
@click.argument("user")
@click.option("--all", "whole", is_flag=True, help="All of it, page by page, not only the newest.")
@click.option("--page-size", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option("Print each FeedItem as one line of JSON.")
@server_option
def feed(*, user: str, whole: bool, page_size: int, as_json: bool, server: str) -> None:
    """Print the feed of USER: what all that USER follows did, newest first."""
    talk(server, lambda client: _feed(client, user, page_size, whole=whole, as_json=as_json))


async def _feed(
    client: FeedClient, user: str, page_size: int, *, whole: bool, as_json: bool
) -> None:
    out = console()
    shown = 0
    page = FeedPage()
    async for page in client.pages(user, page_size=page_size):
        for item in page.items:
            if as_json:
                click.echo(MessageToJson(item, indent=None))
            else:
                out.print(item_line(item))
        shown += len(page.items)
        if shown and not whole:  # a page may be empty and not be the last
            break
    if not as_json and (note := _note(page, user, shown)):
        out.print(Text(note), style="dim")


def _note(last: FeedPage, user: str, shown: int) -> str:
    """What is to be said below the items."""
    if last.next_page_token:
        return "There may be more: --all"
    if last.end == PAGE_END_RETENTION:
        return "What was older has been trimmed."
    if not shown:
        return f"Nothing yet. Let it follow something: feedsvc follow {plain(user)} SOMEONE"
    return ""


@click.command()
@click.argument("user")
@click.option(
    "--resume-token", metavar="TOKEN", default="", help="Go on after the message that had it."
)
@click.option(
    "--count",
    type=click.IntRange(1),
    help="End after this many events.  [default: never]",
)
@json_option("Print each SubscribeFeedResponse, with its resumeToken, as one line of JSON.")
@server_option
def tail(*, user: str, resume_token: str, count: int | None, as_json: bool, server: str) -> None:
    """Print what happens to the feed of USER, as it happens.

    Once it has begun it survives a restart of the server, or of the connection: it goes on where it
    was, and shows nothing twice.
    """

    async def work(client: FeedClient) -> None:
        await _tail(client, user, resume_token, count, server, as_json=as_json)

    talk(server, work)


async def _tail(  # noqa: PLR0913 - they are the command's
    client: FeedClient,
    user: str,
    token: str,
    count: int | None,
    server: str,
    *,
    as_json: bool,
) -> None:
    out = console()
    seen = 0
    begun = away = False

    def broke(error: grpc.RpcError | None) -> None:
        nonlocal away
        if isinstance(error, grpc.aio.AioRpcError):
            if not begun:
                raise error
            if not away and reason(error) != "STREAM_EXPIRED":
                away = True
                click.echo(f"Trying again: {explain(error, server)}", err=True)

    messages = client.subscribe(user, token, on_break=broke)
    async with aclosing(messages):
        async for message in messages:
            if as_json:
                click.echo(MessageToJson(message, indent=None))
            if not as_json:
                for line in lines(user, message, begun_before=begun):
                    out.print(line)
            begun, away = True, False
            seen += len(message.events.events)
            if count is not None and seen >= count:
                return


def lines(user: str, message: SubscribeFeedResponse, *, begun_before: bool) -> Iterator[Text]:
    """What a message of a live feed says, line by line; that it is resumed is worth none."""
    if message.started.start == SUBSCRIPTION_START_RESET:
        yield Text("Events are missing: read the feed again, then go on here.", style="bold yellow")
    elif message.HasField("started") and not begun_before:
        yield Text("Live. Waiting for what happens next.", style="dim")
    for event in message.events.events:
        yield event_line(user, event)


def event_line(user: str, event: FeedEvent) -> Text:
    """An event of a live feed in one line."""
    match event.WhichOneof("event"):
        case "added":
            return item_line(event.added)
        case "removed":
            return Text(f"{'removed':>12}  {event.removed.item_id}", style="dim")
        case "source_changed":
            how = " now follows " if event.source_changed.following else " no longer follows "
            source = entity(event.source_changed.entity)
            return Text(" " * 14).append_text(entity(user)).append(how).append_text(source)
        case _:
            return Text("Something happened that this version does not know.", style="dim")
