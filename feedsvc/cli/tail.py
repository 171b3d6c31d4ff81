"""``feedsvc tail``."""

from collections.abc import Iterator
from contextlib import aclosing

import click
import grpc
import grpc.aio
from activityfeed import FeedClient, reason
from activityfeed.v1.subscription_service_pb2 import (
    SUBSCRIPTION_START_RESET,
    FeedEvent,
    SubscribeFeedResponse,
)
from rich.text import Text

from feedsvc.cli.connection import call_server, echo_json, explain, json_option, server_option
from feedsvc.cli.rendering import console, entity, item_line, print_lines


@click.command()
@click.argument("user")
@click.option(
    "--resume-token",
    metavar="TOKEN",
    default="",
    help="Go on after the message that had this resume token.  [default: begin now]",
)
@click.option(
    "--count",
    "max_events",
    type=click.IntRange(1),
    help="End after this many events.  [default: never]",
)
@json_option("Print each SubscribeFeedResponse, with its resumeToken, as one line of JSON.")
@server_option
def tail(
    *, user: str, resume_token: str, max_events: int | None, as_json: bool, server: str
) -> None:
    """Print what happens to the feed of USER, as it happens.

    Once the stream has begun, the command survives restarts of the server and lost connections: it
    goes on after the last event that it printed, and prints no event twice.
    """

    async def work(client: FeedClient) -> None:
        await _print_events(client, user, resume_token, max_events, server, as_json=as_json)

    call_server(server, work)


async def _print_events(  # noqa: PLR0913 - the arguments of the command
    client: FeedClient,
    user: str,
    resume_token: str,
    max_events: int | None,
    server: str,
    *,
    as_json: bool,
) -> None:
    out = console()
    printed_events = 0
    started = disconnected = False

    def on_break(error: grpc.RpcError | None) -> None:
        nonlocal disconnected
        if isinstance(error, grpc.aio.AioRpcError):
            if not started:
                raise error
            if not disconnected and reason(error) != "STREAM_EXPIRED":
                disconnected = True
                click.echo(f"Trying again: {explain(error, server)}", err=True)

    messages = client.subscribe(user, resume_token, on_break=on_break)
    async with aclosing(messages):
        async for message in messages:
            if as_json:
                echo_json(message)
            else:
                for line in message_lines(user, message, started_before=started):
                    print_lines(out, line)
            started, disconnected = True, False
            printed_events += len(message.events.events)
            if max_events is not None and printed_events >= max_events:
                return


def message_lines(
    user: str, message: SubscribeFeedResponse, *, started_before: bool
) -> Iterator[Text]:
    """Yield the lines for a message of a live feed. A resumed stream gets no line."""
    if message.started.start == SUBSCRIPTION_START_RESET:
        yield Text("Events are missing: read the feed again, then go on here.", style="bold yellow")
    elif message.HasField("started") and not started_before:
        yield Text("Live. Waiting for what happens next.", style="dim")
    for event in message.events.events:
        yield event_line(user, event)


def event_line(user: str, event: FeedEvent) -> Text:
    """Return an event of a live feed as one line."""
    match event.WhichOneof("event"):
        case "added":
            return item_line(event.added)
        case "removed":
            return Text(f"{'removed':>12}  {event.removed.item_id}", style="dim")
        case "source_changed":
            change = " now follows " if event.source_changed.following else " no longer follows "
            source = entity(event.source_changed.entity)
            return Text(" " * 14).append_text(entity(user)).append(change).append_text(source)
        case _:
            return Text(
                "An event that this version of feedsvc does not know: install a newer one.",
                style="dim",
            )
