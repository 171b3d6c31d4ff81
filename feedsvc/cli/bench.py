"""``feedsvc bench``."""

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from feedsvc.cli.connection import INTERRUPTED, call_server, json_option, server_option
from feedsvc.cli.load_test.plan import BadPlan, Kind, Plan, mix_of

#: Calls in flight of a closed loop, and at most of an open one.
CONCURRENCY, MAX_IN_FLIGHT = 8, 1_000
#: Seconds that a call of the preparation may take.
PREPARING_SECONDS = 60.0


def _mix(_: click.Context, __: click.Parameter, value: str) -> dict[Kind, float]:
    try:
        return mix_of(value)
    except BadPlan as error:
        raise click.BadParameter(str(error)) from None


def _writable(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """Found out before the run, not after it."""
    if value is not None and not os.access(value.parent, os.W_OK):
        raise click.BadParameter(f"cannot write into {str(value.parent)!r}")
    return value


@click.command(short_help="Measure a server under load.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    help=f"Closed loop: so many calls are in flight at all times.  [default: {CONCURRENCY}]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Open loop: calls a second, begun when they are due whatever the answers do.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Open loop: whether calls are due at random, as independent callers make them, or evenly.",
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(1, 100_000),
    help="Open loop: further calls wait, and the wait counts as latency.  "
    f"[default: {MAX_IN_FLIGHT:,}]",
)
@click.option(
    "--mix",
    metavar="KIND=WEIGHT,...",
    default="reads=80,publishes=20",
    show_default=True,
    callback=_mix,
    help="How frequent each kind of call is; see above.",
)
@click.option(
    "--subscriptions",
    type=click.IntRange(0, 100_000),
    default=0,
    show_default=True,
    help="Streams to hold open; spread over the users, whose feeds they follow.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that are measured.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds of the same load before them.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that a call may take before it fails.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Share the load between so many processes, each with a connection of its own.",
)
@click.option(
    "--users",
    type=click.IntRange(2, 1_000_000),
    default=500,
    show_default=True,
    help="How many users the run makes.",
)
@click.option(
    "--follows",
    type=click.IntRange(0, 10_000),
    default=20,
    show_default=True,
    help="How many others each user follows.",
)
@click.option(
    "--activities",
    type=click.IntRange(0, 1_000),
    default=10,
    show_default=True,
    help="How many each user has published before.",
)
@click.option(
    "--skew",
    type=click.FloatRange(0, 3),
    default=0.0,
    show_default=True,
    help="How unequal users are: the n-th is followed, read and publishes with the weight "
    "1/n^SKEW. 0: all alike; 1: as Zipf has it.",
)
@click.option(
    "--page-size",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Activities of a page that is read.",
)
@click.option(
    "--content-bytes",
    type=click.IntRange(0, 16_384),
    default=200,
    show_default=True,
    help="Bytes of text in each activity.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Repeats the choices of the run that printed it.  [default: random]",
)
@click.option("--keep", is_flag=True, help="Leave the users' follows and activities in place.")
@click.option(
    "--histogram",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    help="Write the percentile distribution of each kind in ms, as HdrHistogram's plotters read "
    "it: run.hgrm makes run.reads.hgrm and so on.",
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
    as_json: bool,
    **given: Any,
) -> None:
    """Measure how a server answers under load, with users made for the run.

    Their names begin with a prefix of the run's own, bench-<hex>:, and nothing else is touched.
    They follow each other at random and have published before; each feed was read once, and so is
    warm. At the end, and after Ctrl-C, all is unfollowed and deleted again.

    In a closed loop (--concurrency) the next call begins when one was answered: it finds out how
    much the server can do, and its latencies are service times. In an open loop (--rate) calls
    begin on schedule, and a latency is counted from when the call was due: it shows what callers
    would wait. --rate and --concurrency exclude each other.

    \b
    reads      GetFeed, the newest page of some user's feed
    deeper     GetFeed, the page below the one that was the newest before the run
    publishes  PublishActivity by some user, with a request id
    events     with --subscriptions: from when a publish was due until its activity
               came through a stream; one that never comes fails as MISSED

    Calls are not retried. Those that fail are counted by reason, their latencies are not. Where
    the load generator was the limit, not the server, the report says so; if one machine cannot
    make enough load, run it on several at once, and add up the rates.

    \b
    Exit status: 0, or 1 if a call failed, an event was missed, calls were due but could not be made
    before the end, or the clean-up failed; 130 after Ctrl-C, with the results until then.

    \b
    With --json: ok, seed, prefix, warnings, kinds with succeeded, failed, errors by reason, rate
    (answers a second) and ms (p50, p90, p99, p99.9, max), and generator with the cpu of each
    process as share of a core; in an open loop late_ms, held and not_started calls.
    """  # noqa: D301 (click's mark: keep these lines)
    is_open = given["rate"] is not None
    if is_open and concurrency is not None:
        raise click.UsageError("--rate and --concurrency exclude each other")
    if not is_open and max_in_flight is not None:
        raise click.UsageError("--max-in-flight is for an open loop: give a --rate")
    try:
        plan = Plan(
            **given,
            prefix=f"bench-{secrets.token_hex(4)}",
            seed=secrets.randbelow(1_000_000) if seed is None else seed,
            poisson=arrivals == "poisson",
            concurrency=max_in_flight or MAX_IN_FLIGHT if is_open else concurrency or CONCURRENCY,
        )
    except BadPlan as error:
        raise click.UsageError(str(error)) from None
    try:
        # Here, because what they need is an extra, and takes its time to import.
        from feedsvc.cli.load_test import report, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "hdrh":
            raise
        raise click.ClickException(
            "the load generator needs hdrhistogram: pip install 'feedsvc[bench]'"
        ) from None
    try:
        with run.Progress(quiet=as_json) as progress:
            results = call_server(
                plan.server,
                lambda client: run.run(client, plan, progress, keep=keep),
                timeout=PREPARING_SECONDS,
            )
    except (run.GeneratorFailed, run.PreparationRefused) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(report.as_dict(results)))
    else:
        report.show(results)
    if histogram is not None:
        report.write_distributions(results, histogram)
    if results.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(0 if results.succeeded else 1)
