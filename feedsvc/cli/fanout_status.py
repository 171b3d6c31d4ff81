"""``feedsvc fanout``: the state of all deliveries, for operators."""

import asyncio

import click
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
)
from rich.table import Table
from rich.text import Text

from feedsvc.cli.connection import call_server, echo_json, json_option, server_option
from feedsvc.cli.rendering import (
    JOB_KINDS,
    borderless_table,
    console,
    has_cursor,
    job_summary,
    print_table,
)

#: Seconds between two readings of `fanout --watch`.
WATCH_SECONDS = 1.0


@click.command(short_help="Show the state of all deliveries.")
@click.option("--watch", is_flag=True, help="Show the state again each second, until Ctrl-C.")
@json_option("Print the GetFanoutStatusResponse as one line of JSON.")
@server_option
def fanout(*, watch: bool, as_json: bool, server: str) -> None:
    """Show the state of the deliveries of the whole service.

    An activity for few followers is delivered before the publish returns. An activity for many
    followers becomes a job, which workers do. The lag is the age of the oldest unfinished job:
    feeds may be behind by that time.
    """

    async def work(client: FeedClient) -> None:
        await _print_status(client, watch=watch, as_json=as_json)

    call_server(server, work)


async def _print_status(client: FeedClient, *, watch: bool, as_json: bool) -> None:
    out = console()
    while True:
        status = await client.admin.GetFanoutStatus(GetFanoutStatusRequest())
        if as_json:
            echo_json(status, with_defaults=True)  # a script should find each field
        else:
            if watch and has_cursor(out):
                out.clear()
            print_table(out, status_table(status))
            if watch and not has_cursor(out):
                out.print()
        if not watch:
            return
        await asyncio.sleep(WATCH_SECONDS)


def status_table(status: GetFanoutStatusResponse) -> Table:
    """Return the table of a status. It fits into 60 columns, except names of authors."""
    rows = [
        ("waiting", f"{status.waiting_count:,}", "jobs that no worker has begun"),
        ("running", f"{status.running_count:,}", "jobs that a worker has begun"),
        ("inline", f"{status.inline_count:,}", "jobs that a publish does itself"),
        (
            "rate",
            f"{status.followers_per_second:,.0f}/s",
            "followers reached, last minute",
        ),
        ("lag", f"{status.lag.ToMilliseconds() / 1000:,.1f} s", "age of the oldest job"),
        ("dead letters", f"{status.dead_letter_count:,}", "failed jobs: see feedsvc dead-letters"),
    ]
    if status.HasField("oldest"):
        oldest = status.oldest
        rows.insert(5, ("oldest", JOB_KINDS.get(oldest.kind, "?"), job_summary(oldest)))
    table = borderless_table()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
