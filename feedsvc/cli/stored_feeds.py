"""``feedsvc verify``, ``feedsvc rebuild`` and ``feedsvc stats``: the stored parts of feeds."""

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

import click
from activityfeed import FeedClient
from activityfeed.admin.v1.admin_service_pb2 import (
    FEED_DIFFERENCE_KIND_EXTRA,
    FEED_DIFFERENCE_KIND_MISPLACED,
    FEED_DIFFERENCE_KIND_MISSING,
    FEED_STATE_BUILDING,
    FEED_STATE_COLD,
    FEED_STATE_WARM,
    GetFeedStatsRequest,
    GetFeedStatsResponse,
    RebuildFeedRequest,
    RebuildFeedResponse,
    VerifyFeedRequest,
    VerifyFeedResponse,
)
from google.protobuf.message import Message

from feedsvc.cli.calls_by_id import echo_refusal, echo_rows, outcomes, read_ids
from feedsvc.cli.connection import call_server, json_option, server_option
from feedsvc.cli.exit_statuses import FAILED
from feedsvc.cli.rendering import plain

#: Seconds until a call fails: a large feed takes long to compare and to build.
CALL_SECONDS = 60.0
#: The states of a feed in words.
STATES = {FEED_STATE_COLD: "cold", FEED_STATE_BUILDING: "being built", FEED_STATE_WARM: "warm"}
#: The kinds of differences: a word, and its meaning.
DIFFERENCES = {
    FEED_DIFFERENCE_KIND_MISSING: ("missing", "not in the stored feed"),
    FEED_DIFFERENCE_KIND_EXTRA: ("extra", "only in the stored feed"),
    FEED_DIFFERENCE_KIND_MISPLACED: ("misplaced", "twice, or out of order"),
}
#: Units of durations, with their seconds.
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

_Response = TypeVar("_Response", bound=Message)


@click.command(short_help="Compare the stored feed of each USER with its query.")
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@json_option("Print, for each USER, the VerifyFeedResponse as one line of JSON.")
@server_option
def verify(*, users: Sequence[str], as_json: bool, server: str) -> None:
    """Compare the stored part of the feed of each USER with the query whose answer it stores.

    "exact" means that the stored feed is right. Each difference is listed with the id of its
    activity; `feedsvc rebuild USER` removes it, and a report of it helps the developers of feedsvc.
    Of a cold feed nothing is stored. USER - stands for the lines of standard input.

    \b
    Exit status: 1 if a feed has differences, or if a USER was refused.
    """  # noqa: D301 (click's mark: keep these lines)

    def print_outcome(user: str, answer: VerifyFeedResponse) -> None:
        if answer.state != FEED_STATE_WARM:
            meaning = "nothing is stored" if answer.state == FEED_STATE_COLD else "verify it again"
            click.echo(f"{plain(user)}: {STATES.get(answer.state, 'unknown')}: {meaning}")
        elif not answer.differences:
            click.echo(f"{plain(user)}: exact, {_count(answer.compared_count, 'entry')} compared")
        else:
            found = _count(len(answer.differences), "difference")
            compared = _count(answer.compared_count, "entry")
            echo_rows(f"{user}: {found}, {compared} compared", _difference_rows(answer))

    async def call(client: FeedClient, user: str) -> VerifyFeedResponse:
        return await client.admin.VerifyFeed(VerifyFeedRequest(user=user))

    _run(
        users, call, print_outcome, server, as_json=as_json, is_bad=lambda it: bool(it.differences)
    )


@click.command(short_help="Build the stored feed of each USER anew.")
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@json_option("Print, for each USER, the RebuildFeedResponse as one line of JSON.")
@server_option
def rebuild(*, users: Sequence[str], as_json: bool, server: str) -> None:
    """Drop the stored part of the feed of each USER, and build it again. Readers do not notice.

    USER - stands for the lines of standard input.

    \b
    Exit status: 1 if a USER was refused.
    """  # noqa: D301 (click's mark: keep these lines)

    def print_outcome(user: str, answer: RebuildFeedResponse) -> None:
        if answer.state == FEED_STATE_WARM:
            click.echo(f"{plain(user)}: rebuilt, {_count(answer.entry_count, 'entry')} stored")
        else:
            click.echo(f"{plain(user)}: dropped: the next read builds it")

    async def call(client: FeedClient, user: str) -> RebuildFeedResponse:
        return await client.admin.RebuildFeed(RebuildFeedRequest(user=user))

    _run(users, call, print_outcome, server, as_json=as_json)


@click.command(short_help="Show what is stored of the feed of each USER.")
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@json_option("Print, for each USER, the GetFeedStatsResponse as one line of JSON.")
@server_option
def stats(*, users: Sequence[str], as_json: bool, server: str) -> None:
    """Show what is stored of the feed of each USER, without changing it.

    USER - stands for the lines of standard input.

    \b
    Exit status: 1 if a USER was refused.
    """  # noqa: D301 (click's mark: keep these lines)

    def print_outcome(user: str, answer: GetFeedStatsResponse) -> None:
        echo_rows(user, _stats_rows(answer))

    async def call(client: FeedClient, user: str) -> GetFeedStatsResponse:
        return await client.admin.GetFeedStats(GetFeedStatsRequest(user=user))

    _run(users, call, print_outcome, server, as_json=as_json)


def _run(  # noqa: PLR0913 - the parts of a command
    users: Sequence[str],
    call: Callable[[FeedClient, str], Awaitable[_Response]],
    print_outcome: Callable[[str, _Response], None],
    server: str,
    *,
    as_json: bool,
    is_bad: Callable[[_Response], bool] = lambda _: False,
) -> None:
    """Call the server for each user and print the answers. Exit with 1 if an answer is bad."""
    ids = read_ids(users)

    async def work(client: FeedClient) -> bool:
        is_good = True
        async with aclosing(outcomes(ids, lambda user: call(client, user))) as answers:
            async for outcome in answers:
                if as_json:
                    outcome.echo_json("user")
                elif outcome.response is None:
                    echo_refusal(outcome)
                else:
                    print_outcome(outcome.id, outcome.response)
                is_good &= outcome.response is not None and not is_bad(outcome.response)
        return is_good

    sys.exit(0 if call_server(server, work, timeout=CALL_SECONDS) else FAILED)


def _difference_rows(answer: VerifyFeedResponse) -> Iterator[tuple[str, str, str]]:
    for difference in answer.differences:
        kind, meaning = DIFFERENCES.get(difference.kind, ("unknown", "install a newer feedsvc"))
        yield kind, f"{difference.activity_id:<19}", meaning


def _stats_rows(answer: GetFeedStatsResponse) -> Iterator[tuple[str, str, str]]:
    yield "state", STATES.get(answer.state, "unknown"), ""
    yield "entries", f"{answer.entry_count:,}", "stored ids, deleted ones too"
    yield "bytes", f"{answer.stored_bytes:,}", "that they take in the store"
    if answer.state == FEED_STATE_WARM:
        reaches = answer.floor if answer.HasField("floor") else "the whole feed"
        yield "complete", reaches, "and newer" if answer.HasField("floor") else ""
        yield "cold in", _duration(answer.expires_in.ToSeconds()), "unless the feed is read"
    yield "follows", f"{answer.following_count:,}", "entities"
    yield "pulled", f"{answer.pulled_count:,}", "of them, read at each page"
    yield "live", "yes" if answer.live else "no", "it has a live log" if answer.live else ""


def _duration(seconds: int) -> str:
    """Return a duration in its largest unit, and in the next one if that is not 0."""
    for index, (unit_seconds, unit) in enumerate(_UNITS):
        if seconds >= unit_seconds:
            count, remainder = divmod(seconds, unit_seconds)
            next_seconds, next_unit = _UNITS[min(index + 1, len(_UNITS) - 1)]
            smaller = remainder // next_seconds
            return f"{count} {unit}" + (f" {smaller} {next_unit}" if smaller else "")
    return "0 s"


def _count(number: int, noun: str) -> str:
    plural = "entries" if noun == "entry" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
