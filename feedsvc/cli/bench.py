"""``feedsvc bench``."""

import json
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from feedsvc.cli.connection import call_server, json_option, server_option
from feedsvc.cli.durations import DURATION, Duration
from feedsvc.cli.load_test.plan import BadPlan, Kind, Plan, mix_of

#: Default number of calls in flight in a closed loop, and most calls in an open one.
CONCURRENCY, MAX_IN_FLIGHT = 8, 1_000
#: Seconds until a call of the preparation fails.
PREPARATION_TIMEOUT = 60.0

#: The prefixes of runs.
PREFIX = re.compile(r"bench-[0-9a-f]{8}")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _mix(_: click.Context, __: click.Parameter, value: str) -> dict[Kind, float]:
    try:
        return mix_of(value)
    except BadPlan as error:
        raise click.BadParameter(str(error)) from None


def _writable(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file in a folder that is not writable: before the run, not after it."""
    if value is not None and not os.access(value.parent, os.W_OK):
        raise click.BadParameter(f"cannot write into {str(value.parent)!r}")
    return value


def _prefix(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Refuse a prefix that no run has: --remove must not touch other entities."""
    if value is not None and not PREFIX.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} is no prefix of a run, such as bench-0a1b2c3d: the run printed it"
        )
    return value


def _number(
    flag: str, values: click.IntRange | click.FloatRange, default: float, help_text: str
) -> Callable[[_Command], _Command]:
    """Return an option that takes a number, and whose help shows the default."""
    return click.option(flag, type=values, default=default, show_default=True, help=help_text)


def _duration(
    flag: str, values: Duration, default: str, help_text: str
) -> Callable[[_Command], _Command]:
    """Return an option that takes a duration, and whose help shows the default."""
    return click.option(flag, type=values, default=default, show_default=True, help=help_text)


#: Range of numbers above 0.
_POSITIVE = click.FloatRange(0, min_open=True)
_CALLS = click.IntRange(1, 100_000)


@click.command(short_help="Measure a server under load.")
@click.option(
    "--concurrency",
    type=_CALLS,
    help=f"Closed loop: number of calls in flight at all times.  [default: {CONCURRENCY}]",
)
@click.option(
    "--rate",
    type=_POSITIVE,
    help="Open loop: calls a second. Each begins when it is due, even if earlier ones are late.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Open loop: calls are due at random, as independent callers make them, or evenly spaced.",
)
@click.option(
    "--max-in-flight",
    type=_CALLS,
    help="Open loop: most calls in flight. Further calls wait, and the wait counts as latency.  "
    f"[default: {MAX_IN_FLIGHT:,}]",
)
@click.option(
    "--mix",
    metavar="KIND=WEIGHT,...",
    default="reads=80,publishes=20",
    show_default=True,
    callback=_mix,
    help="How frequent each kind of call is; the kinds stand above.",
)
@_number(
    "--subscriptions",
    click.IntRange(0, 100_000),
    0,
    "Number of streams to keep open. They are spread over the users, whose feeds they follow.",
)
@_duration("--duration", Duration(0.001), "10s", "Time that is measured.")
@_duration("--warm-up", DURATION, "2s", "Time of the same load before the measurement.")
@_duration("--timeout", Duration(0.000_001), "10s", "Time after which a call fails.")
@_number(
    "--processes",
    click.IntRange(1, 256),
    1,
    "Number of processes that share the load. Each has a connection of its own.",
)
@_number("--users", click.IntRange(2, 1_000_000), 500, "Number of users that the run creates.")
@_number("--follows", click.IntRange(0, 10_000), 20, "Number of others that each user follows.")
@_number(
    "--activities",
    click.IntRange(0, 1_000),
    10,
    "Number of activities that each user publishes before the run.",
)
@_number(
    "--skew",
    click.FloatRange(0, 3),
    0.0,
    "How unequal users are: the n-th user is followed, reads and publishes with the weight "
    "1/n^SKEW. 0: all are alike; 1: Zipf's law.",
)
@_number("--page-size", click.IntRange(1, 100), 20, "Number of activities in a page.")
@_number("--content-bytes", click.IntRange(0, 16_384), 200, "Bytes of text in each activity.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Repeat the choices of the run that printed this seed.  [default: random]",
)
@click.option("--keep", is_flag=True, help="Leave the users' follows and activities in place.")
@click.option(
    "--histogram",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    help="Write the percentile distribution of each kind, in ms, for HdrHistogram's plotters: "
    "run.hgrm makes run.reads.hgrm and so on.",
)
@click.option(
    "--remove",
    "removed_prefix",
    metavar="PREFIX",
    callback=_prefix,
    help="Measure nothing: remove what an earlier run left behind. Give the run's --users too; the "
    "run printed the whole command.",
)
@json_option("Print the result as one JSON object, and no progress.")
@server_option
def bench(  # noqa: PLR0913 - a load has that many sides
    *,
    arrivals: str,
    concurrency: int | None,
    max_in_flight: int | None,
    seed: int | None,
    keep: bool,
    histogram: Path | None,
    removed_prefix: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Measure how a server answers under load, with users that the run creates.

    The users' names begin with a prefix of the run's own, bench-<hex>:, and the run touches nothing
    else. The users follow each other at random and publish activities; each feed is read once, so
    that it is warm. At the end, and after Ctrl-C, the run removes all follows and activities.

    In a closed loop (--concurrency) the next call begins when an earlier one is answered: the loop
    finds out how much the server can do, and its latencies are service times. In an open loop
    (--rate) calls begin on schedule, and a latency counts from when the call was due: it is the
    time that a caller would wait. --rate and --concurrency exclude each other.

    \b
    reads      GetFeed, the newest page of some user's feed
    deeper     GetFeed, the page below the page that was the newest before the run
    publishes  PublishActivity by some user, with a request id
    events     with --subscriptions: from when a publish was due until its activity
               came through a stream; an event that never comes fails as MISSED

    Calls are not retried. Calls that fail are counted by reason, and have no latency. The report
    says so if the load generator was the limit, not the server. If one machine cannot make enough
    load, run the command on several machines at once, and add up the rates.

    \b
    Exit status: 0; 1 if a call failed, an event was missed, a call was due but could not begin
    before the end, or the clean-up failed; 130 after Ctrl-C, 143 after SIGTERM, with the results
    until then. A second Ctrl-C ends the command at once, and the data stay.

    \b
    With --json: ok, seed, prefix, warnings, kinds with succeeded, failed, errors by reason, rate
    (answers a second) and ms (p50, p90, p99, p99.9, max), and generator with the cpu of each
    process as share of a core; in an open loop late_ms, held and not_started calls.
    """  # noqa: D301 (click's mark: keep these lines)
    plan = _plan(
        choices,
        arrivals=arrivals,
        concurrency=concurrency,
        max_in_flight=max_in_flight,
        seed=seed,
        removed_prefix=removed_prefix,
    )
    try:
        # Imported here: these modules need the extra `bench`, which takes time to import.
        from feedsvc.cli.load_test import report, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "hdrh":
            raise
        raise click.ClickException(
            "the load generator needs hdrhistogram: pip install 'feedsvc[bench]'"
        ) from None
    if removed_prefix is not None:
        with run.Progress(quiet=as_json) as progress:
            call_server(
                plan.server,
                lambda client: run.remove(client, plan, progress),
                timeout=PREPARATION_TIMEOUT,
            )
        removed = {"removed": plan.prefix}
        click.echo(json.dumps(removed) if as_json else f"removed {plan.prefix}:*")
        return
    try:
        with (
            run.Progress(quiet=as_json) as progress,
            run.Interruption(plan, progress, keep=keep) as interruption,
        ):
            results = call_server(
                plan.server,
                lambda client: run.run(client, plan, progress, interruption, keep=keep),
                timeout=PREPARATION_TIMEOUT,
            )
    except (run.GeneratorFailed, run.PreparationRefused) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(report.as_dict(results)))
    else:
        if keep:
            run.print_left_behind(plan, progress)
        report.show(results)
    if histogram is not None:
        report.write_distributions(results, histogram)
    if interruption.status:
        sys.exit(interruption.status)
    sys.exit(0 if results.succeeded else 1)


def _plan(  # noqa: PLR0913 - a load has that many sides
    choices: dict[str, Any],
    *,
    arrivals: str,
    concurrency: int | None,
    max_in_flight: int | None,
    seed: int | None,
    removed_prefix: str | None,
) -> Plan:
    """Return the plan of the options. Raise UsageError if they contradict each other."""
    is_open = choices["rate"] is not None
    if is_open and concurrency is not None:
        raise click.UsageError("--rate and --concurrency exclude each other")
    if not is_open and max_in_flight is not None:
        raise click.UsageError("--max-in-flight is for an open loop: give a --rate")
    if removed_prefix is not None:
        choices |= {"follows": 0, "mix": {Kind.READS: 1}}  # removing needs only names
    try:
        return Plan(
            **choices,
            prefix=removed_prefix or f"bench-{secrets.token_hex(4)}",
            seed=secrets.randbelow(1_000_000) if seed is None else seed,
            poisson=arrivals == "poisson",
            concurrency=max_in_flight or MAX_IN_FLIGHT if is_open else concurrency or CONCURRENCY,
        )
    except BadPlan as error:
        raise click.UsageError(str(error)) from None
