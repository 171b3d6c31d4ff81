"""``feedsvc dead-letters``: jobs that failed for good, for operators."""

import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import click
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    DeadLetter,
    DiscardDeadLettersRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from rich.text import Text

from feedsvc.cli.connection import (
    call_server,
    echo_json,
    error_text,
    json_option,
    server_option,
)
from feedsvc.cli.rendering import (
    JOB_KINDS,
    age_since,
    borderless_table,
    console,
    job_summary,
    plain,
    print_lines,
    print_table,
)

#: Dead letters that one call lists, replays or discards.
PAGE_SIZE = 500


@click.command(
    "dead-letters", short_help="Show, replay or discard deliveries that failed for good."
)
@click.option("--show", "shown_id", metavar="ID", help="Show all of this dead letter.")
@click.option(
    "--replay",
    "replayed_ids",
    metavar="ID",
    multiple=True,
    help="Try this delivery again. Repeatable.",
)
@click.option("--replay-all", is_flag=True, help="Try all of these deliveries again.")
@click.option(
    "--discard",
    "discarded_ids",
    metavar="ID",
    multiple=True,
    help="Give up this delivery for good. Repeatable.",
)
@json_option("Print each DeadLetter, or the outcome for each ID, as one line of JSON.")
@server_option
def dead_letters(  # noqa: PLR0913 - an argument for each option
    *,
    shown_id: str | None,
    replayed_ids: Sequence[str],
    replay_all: bool,
    discarded_ids: Sequence[str],
    as_json: bool,
    server: str,
) -> None:
    """List the dead letters, one a line: jobs that workers gave up after repeated failures.

    The followers whom a job has reached keep the activity. Repair the cause of the failures, then
    replay the dead letters: each job goes on where it stopped. Discard a job that need not be
    delivered any more; a discarded job cannot be replayed.

    \b
    Exit status of --show, --replay and --discard: 1 if there is no dead letter with an ID.
    """  # noqa: D301 (click's mark: keep these lines)
    if (shown_id is not None) + bool(replayed_ids) + replay_all + bool(discarded_ids) > 1:
        raise click.UsageError(
            "--show, --replay, --replay-all and --discard exclude each other: give one of them"
        )

    async def work(client: FeedClient) -> bool:
        if shown_id is not None:
            await _show(client, shown_id, as_json=as_json)
        elif replayed_ids:
            return await _change(client, replayed_ids, "replayed", as_json=as_json)
        elif discarded_ids:
            return await _change(client, discarded_ids, "discarded", as_json=as_json)
        elif replay_all:
            # List all before the first replay: a job that fails again at once must not come again.
            letter_ids = [letter.id async for letter in _list_letters(client)]
            await _change(client, letter_ids, "replayed", as_json=as_json)
        else:
            await _print_list(client, as_json=as_json)
        return True

    sys.exit(0 if call_server(server, work) else 1)


async def _list_letters(client: FeedClient) -> AsyncIterator[DeadLetter]:
    request = ListDeadLettersRequest(page_size=PAGE_SIZE)
    while True:
        page = await client.admin.ListDeadLetters(request)
        for letter in page.dead_letters:
            yield letter
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def _print_list(client: FeedClient, *, as_json: bool) -> None:
    out = console()
    is_empty = True
    async for letter in _list_letters(client):
        is_empty = False
        if as_json:
            _echo_letter(letter)
        else:
            print_lines(out, _letter_line(letter))
    if is_empty and not as_json:
        click.echo("no dead letters", err=True)


async def _show(client: FeedClient, shown_id: str, *, as_json: bool) -> None:
    async for letter in _list_letters(client):
        if letter.id != shown_id:
            continue
        if as_json:
            _echo_letter(letter)
        else:
            table = borderless_table()
            for name, value in _letter_fields(letter):
                table.add_row(name, Text(plain(value)))
            print_table(console(), table)
        return
    raise click.ClickException(
        f"there is no dead letter {plain(shown_id)}: `feedsvc dead-letters` lists all"
    )


async def _change(
    client: FeedClient, letter_ids: Sequence[str], outcome: str, *, as_json: bool
) -> bool:
    """Replay or discard dead letters, by ``outcome``; return whether all calls succeeded."""
    changed = 0
    for start in range(0, len(letter_ids), PAGE_SIZE):
        batch_ids = letter_ids[start : start + PAGE_SIZE]
        if outcome == "replayed":
            replay = await client.admin.ReplayDeadLetters(ReplayDeadLettersRequest(ids=batch_ids))
            statuses = [result.status for result in replay.results]
        else:
            discard = await client.admin.DiscardDeadLetters(
                DiscardDeadLettersRequest(ids=batch_ids)
            )
            statuses = [result.status for result in discard.results]
        for letter_id, status in zip(batch_ids, statuses, strict=True):
            error = error_text(status) if status.code else ""
            changed += not error
            if as_json:
                click.echo(json.dumps({"id": letter_id, outcome: not error, "error": error}))
            elif error:
                click.echo(f"{plain(letter_id)}: {error}", err=True)
    if not as_json:
        click.echo(f"{changed:,} of {len(letter_ids):,} {outcome}")
    return changed == len(letter_ids)


def _letter_fields(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    job = letter.job
    yield "id", letter.id
    yield "kind", JOB_KINDS.get(job.kind, str(job.kind))
    if job.activity_id:
        yield "activity", job.activity_id
    if job.actor:
        yield "followers of", job.actor
    for entity in job.to:
        yield "to", entity
    yield "queued", job.queue_time.ToJsonString()
    yield "set aside", letter.failure_time.ToJsonString()
    yield "attempts", f"{job.attempt_count:,}"
    yield "delivered", f"{job.delivered_count:,}"
    yield "skipped cold", f"{job.skipped_cold_count:,}"
    yield "error", letter.error


def _letter_line(letter: DeadLetter) -> Text:
    line = Text(f"{age_since(letter.failure_time):>12}  ", style="dim")
    line.append(letter.id, style="bold").append(f"  {JOB_KINDS.get(letter.job.kind, '?')} ")
    line.append(job_summary(letter.job))
    return line.append(
        f"  {letter.job.attempt_count:,} attempts: {plain(letter.error)}", style="dim"
    )


def _echo_letter(letter: DeadLetter) -> None:
    echo_json(letter, with_defaults=True)  # a script should find each field
