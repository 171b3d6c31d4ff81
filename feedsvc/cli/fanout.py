"""``feedsvc fanout`` and ``feedsvc dead-letters``: how deliveries stand, for operators."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import click
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    JOB_KIND_DELIVER,
    JOB_KIND_FLIP,
    JOB_KIND_RETRACT,
    DeadLetter,
    DiscardDeadLettersRequest,
    FanoutJob,
    GetFanoutStatusRequest,
    GetFanoutStatusResponse,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from feedsvc.cli.connection import json_option, server_option, talk, told
from feedsvc.cli.show import age, console, plain

#: Seconds between two looks of `fanout --watch`.
WATCH_SECONDS = 1.0
#: Letters of a page that is listed, and of a batch that is replayed.
PAGE = 500

KINDS = {JOB_KIND_DELIVER: "deliver", JOB_KIND_RETRACT: "retract", JOB_KIND_FLIP: "flip"}


@click.command(short_help="Show how deliveries stand.")
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C.")
@json_option("Print the GetFanoutStatusResponse as one line of JSON.")
@server_option
def fanout(*, watch: bool, as_json: bool, server: str) -> None:
    """Show how the deliveries of the whole service stand.

    What goes to few followers is delivered before a publish answers; the rest is queued for
    workers. The lag is how much feeds may be behind because of what waits.
    """
    talk(server, lambda client: _fanout(client, watch=watch, as_json=as_json))


async def _fanout(client: FeedClient, *, watch: bool, as_json: bool) -> None:
    out = console()
    while True:
        status = await client.admin.GetFanoutStatus(GetFanoutStatusRequest())
        if as_json:
            _echo(status)
        else:
            if watch:
                out.clear()  # if it is a terminal
            out.print(_table(status))
        if not watch:
            return
        await asyncio.sleep(WATCH_SECONDS)


def _table(status: GetFanoutStatusResponse) -> Table:
    rows = [
        ("waiting", f"{status.waiting_count:,}", "jobs that no worker has begun"),
        ("running", f"{status.running_count:,}", "jobs that a worker has"),
        ("inline", f"{status.inline_count:,}", "being delivered before a publish answers"),
        (
            "rate",
            f"{status.followers_per_second:,.0f}/s",
            "followers reached by workers, over the last minute",
        ),
        ("lag", f"{status.lag.ToMilliseconds() / 1000:,.1f} s", "age of the oldest job"),
        ("dead letters", f"{status.dead_letter_count:,}", "set aside: see feedsvc dead-letters"),
    ]
    if status.HasField("oldest"):
        rows.insert(5, ("oldest", KINDS.get(status.oldest.kind, "?"), _about(status.oldest)))
    table = _grid()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


@click.command(
    "dead-letters", short_help="Show, replay or discard deliveries that failed for good."
)
@click.option("--show", "shown", metavar="ID", help="Show all of one.")
@click.option("--replay", "replayed", metavar="ID", multiple=True, help="Try it again. Repeatable.")
@click.option("--replay-all", "everything", is_flag=True, help="Try all of them again.")
@click.option(
    "--discard", "discarded", metavar="ID", multiple=True, help="Throw it away. Repeatable."
)
@json_option("Print each DeadLetter, or what became of each ID, as one line of JSON.")
@server_option
def dead_letters(  # noqa: PLR0913 (one for each option)
    *,
    shown: str | None,
    replayed: Sequence[str],
    everything: bool,
    discarded: Sequence[str],
    as_json: bool,
    server: str,
) -> None:
    """List the jobs that failed again and again and were set aside, one a line.

    What they have delivered stays delivered. When the cause is mended, replay them: each goes on
    where it stopped. What is not worth delivering any more can be discarded, for good.

    \b
    Exit status of --show, --replay and --discard: 1 if an ID is not there (any more).
    """  # noqa: D301 (click's mark: keep these lines)
    if (shown is not None) + bool(replayed) + everything + bool(discarded) > 1:
        raise click.UsageError("--show, --replay, --replay-all and --discard exclude each other")

    async def work(client: FeedClient) -> bool:
        if shown is not None:
            await _show(client, shown, as_json=as_json)
        elif replayed:
            return await _settle(client, replayed, "replayed", as_json=as_json)
        elif discarded:
            return await _settle(client, discarded, "discarded", as_json=as_json)
        elif everything:
            # All that there are now: one that fails again at once is not replayed again.
            ids = [letter.id async for letter in _letters(client)]
            await _settle(client, ids, "replayed", as_json=as_json)
        else:
            out = console()
            async for letter in _letters(client):
                if as_json:
                    _echo(letter)
                else:
                    out.print(_line(letter))
        return True

    sys.exit(0 if talk(server, work) else 1)


async def _letters(client: FeedClient) -> AsyncIterator[DeadLetter]:
    request = ListDeadLettersRequest(page_size=PAGE)
    while True:
        page = await client.admin.ListDeadLetters(request)
        for letter in page.dead_letters:
            yield letter
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def _show(client: FeedClient, wanted: str, *, as_json: bool) -> None:
    async for letter in _letters(client):
        if letter.id != wanted:
            continue
        if as_json:
            _echo(letter)
        else:
            table = _grid()
            for name, value in _parts(letter):
                table.add_row(name, Text(plain(value)))
            console().print(table)
        return
    raise click.ClickException("there is no such dead letter")


def _parts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    job = letter.job
    yield "id", letter.id
    yield "kind", KINDS.get(job.kind, str(job.kind))
    if job.activity_id:
        yield "activity", job.activity_id
    if job.actor:
        yield "followers of", job.actor
    for one in job.to:
        yield "to", one
    yield "queued", job.queue_time.ToJsonString()
    yield "set aside", letter.failure_time.ToJsonString()
    yield "attempts", f"{job.attempt_count:,}"
    yield "delivered", f"{job.delivered_count:,}"
    yield "skipped cold", f"{job.skipped_cold_count:,}"
    yield "error", letter.error


async def _settle(client: FeedClient, ids: Sequence[str], done_by: str, *, as_json: bool) -> bool:
    """Have letters replayed or discarded; return whether all were."""
    done = 0
    for first in range(0, len(ids), PAGE):
        some = ids[first : first + PAGE]
        if done_by == "replayed":
            replay = await client.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=some))
            statuses = [result.status for result in replay.results]
        else:
            discard = await client.admin.DiscardDeadLetters(DiscardDeadLettersRequest(ids=some))
            statuses = [result.status for result in discard.results]
        for letter_id, status in zip(some, statuses, strict=True):
            why = told(status) if status.code else ""
            done += not why
            if as_json:
                click.echo(json.dumps({"id": letter_id, done_by: not why, "error": why}))
            elif why:
                click.echo(f"{plain(letter_id)}: {why}", err=True)
    if not as_json:
        click.echo(f"{done:,} of {len(ids):,} {done_by}")
    return done == len(ids)


def _line(letter: DeadLetter) -> Text:
    line = Text(f"{_ago(letter.failure_time):>12}  ", style="dim")
    line.append(letter.id, style="bold").append(f"  {KINDS.get(letter.job.kind, '?')} ")
    line.append(_about(letter.job))
    return line.append(
        f"  {letter.job.attempt_count:,} attempts: {plain(letter.error)}", style="dim"
    )


def _about(job: FanoutJob) -> str:
    """Which activity a job is about, and whose followers."""
    whose = ", ".join(map(plain, filter(None, (job.actor, *job.to))))
    return f"{job.activity_id} to followers of {whose}".lstrip()


def _ago(when: Timestamp) -> str:
    return age(time.time() - when.seconds - when.nanos / 1e9)


def _grid() -> Table:
    return Table(show_header=False, box=None, padding=(0, 2, 0, 0))


def _echo(message: Message) -> None:
    """Zeros too: a script should find each field."""
    click.echo(MessageToJson(message, indent=None, always_print_fields_with_no_presence=True))
