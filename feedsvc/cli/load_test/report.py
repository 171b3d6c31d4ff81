"""Reports of results, for people and for scripts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from feedsvc.cli.load_test.latencies import PERCENTILES
from feedsvc.cli.load_test.plan import EVENTS
from feedsvc.cli.load_test.results import Results
from feedsvc.cli.rendering import borderless_table, console, print_lines, print_table

#: Share of a core from which a process of the load generator counts as the limit.
BUSY = 0.9
#: Milliseconds that one call in a hundred may be late without a warning.
LATE_MS = 5.0
#: Counted seconds from which a rate means anything.
MIN_RATE_SECONDS = 0.2
#: Columns of the table's names, and of each kind up to 10,000 calls a second.
NAME_WIDTH, KIND_WIDTH = 9, 12
#: Digits after the point that latencies below a number of milliseconds have. Longer latencies are
#: shown in seconds.
DIGITS_BELOW_MS = ((100.0, 2), (1000.0, 1), (10_000.0, 0))

_NAMES = [f"p{share:g}" for share in PERCENTILES]
_P99 = PERCENTILES.index(99)


def as_dict(results: Results) -> dict[str, Any]:
    """Return the results, ready for JSON."""
    plan = results.plan
    report: dict[str, Any] = {
        "ok": results.succeeded,
        "server": plan.server,
        "prefix": plan.prefix,
        "seed": plan.seed,
        "loop": "closed" if plan.rate is None else "open",
        "seconds": round(results.seconds, 3),
        "interrupted": results.interrupted,
        "kinds": {name: _figures_of(results, name) for name in results.latencies},
        "generator": {"cpu": [round(share, 3) for share in results.cpu]},
        "warnings": list(warnings(results)),
    }
    if plan.rate is not None:
        report["generator"] |= {
            "late_ms": {"p99": results.late.percentiles()[_P99], "max": results.late.longest},
            "held": results.held,
            "not_started": results.not_started,
        }
    return report


def _figures_of(results: Results, name: str) -> dict[str, Any]:
    latencies = results.latencies[name]
    percentiles = dict(zip(_NAMES, latencies.percentiles(), strict=True))
    return {
        "succeeded": latencies.count,
        "failed": results.failed(name),
        "errors": results.errors(name),
        "rate": round(results.rate(name), 1),
        "ms": percentiles | {"max": latencies.longest} if latencies.count else None,
    }


def show(results: Results, out: Console | None = None) -> None:
    """Print the results, notes on how to read them, warnings, and the result in one sentence."""
    out = out or console()
    if not results.seconds:
        print_lines(out, conclusion(results), indent=2, style="bold")
        return
    print_lines(out, _headline(results), indent=2, style="bold")
    names = list(results.latencies)
    kinds_of_table = max(1, (out.width - NAME_WIDTH) // KIND_WIDTH)
    for first in range(0, len(names), kinds_of_table):
        print_table(out, _table(results, names[first : first + kinds_of_table]))
    for note in _notes(results):
        print_lines(out, note, indent=2, style="dim")
    for warning in warnings(results):
        print_lines(out, f"WARNING  {warning}", indent=9, style="yellow")
    print_lines(out, conclusion(results), indent=2, style="bold")


def write_distributions(results: Results, path: Path) -> None:
    """Write a file for each kind, whose name stands before the suffix. Raise OSError."""
    for name, latencies in results.latencies.items():
        text = "".join(f"{line}\n" for line in latencies.distribution())
        path.with_suffix(f".{name}{path.suffix}").write_text(text, encoding="ascii")


def _table(results: Results, names: Sequence[str]) -> Table:
    """Return a table with a column for each of the kinds."""
    table = borderless_table("", *names)
    columns = [_column(results, name) for name in names]
    headings = ("succeeded", "failed", "rate", *_NAMES, "max")
    for row in zip(headings, *columns, strict=True):
        table.add_row(*row)
    return table


def _column(results: Results, name: str) -> list[str]:
    latencies = results.latencies[name]
    counts = (f"{latencies.count:,}", f"{results.failed(name):,}", f"{results.rate(name):,.1f}/s")
    if not latencies.count:
        return [*counts, *("-" for _ in (*_NAMES, "max"))]
    return [*counts, *map(_milliseconds, [*latencies.percentiles(), latencies.longest])]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _milliseconds(ms: float) -> str:
    """Return a latency in at most 9 characters."""
    for limit, digits in DIGITS_BELOW_MS:
        if ms < limit:
            return f"{ms:,.{digits}f} ms"
    return f"{ms / 1000:,.1f} s"


def _headline(results: Results) -> str:
    """Return the load, its length and its seed."""
    plan = results.plan
    if plan.rate is None:
        load = f"Closed loop of {plan.concurrency:,} call{'s' if plan.concurrency > 1 else ''}"
    else:
        arrivals = "random (Poisson)" if plan.poisson else "evenly spaced"
        load = f"Open loop of {plan.rate:,g} calls/s, {arrivals}"
    processes = "1 process" if plan.processes == 1 else f"{plan.processes} processes"
    cut = " (interrupted)" if results.interrupted else ""
    return f"{load}, {processes}, {results.seconds:,.1f} s{cut}, seed {plan.seed}"


def _notes(results: Results) -> Iterator[str]:
    """Yield the notes that a reader of the table needs."""
    plan = results.plan
    for name in results.latencies:
        if errors := results.errors(name):
            yield f"Failed {name}: " + ", ".join(
                f"{count:,} {why}" for why, count in errors.items()
            )
    if plan.rate is None:
        yield (
            "Latencies are the service times of a closed loop, which makes fewer calls when the "
            "server is slow. Use --rate to see what callers would wait."
        )
    else:
        yield "Latencies count from when a call was due, whenever it began."
        late = results.late
        p99, longest = _milliseconds(late.percentiles()[_P99]), _milliseconds(late.longest)
        yield f"Late starts: p99 {p99}, max {longest}."
    if plan.subscriptions:
        streams = _count(plan.subscriptions, "stream")
        yield f"Events: from when the publish was due; through {streams}."
    if results.cpu:
        shares = ", ".join(f"{share:.0%}" for share in results.cpu)
        yield f"Client CPU: {shares} of a core."


def conclusion(results: Results) -> str:
    """Return the result in one sentence."""
    calls = [kind for kind in results.latencies if kind != EVENTS]
    answered = sum(results.latencies[kind].count for kind in calls)
    made = answered + sum(map(results.failed, calls)) + results.not_started
    subject = "Until the interruption, the server" if results.interrupted else "The server"
    if not results.seconds:
        return "The run was interrupted before the first call that counts: it has no results."
    if not made:
        return f"{subject} answered no calls."
    share = "all" if answered == made else f"{answered:,} of"
    clauses = [f"{subject} answered {share} {_count(made, 'call')} in {results.seconds:,.1f} s"]
    if answered:
        slowest = max(results.latencies[kind].percentiles()[_P99] for kind in calls)
        each = " of each kind" if len(calls) > 1 else ""
        clauses.append(f"99 %{each} within {_milliseconds(slowest)}")
    if results.missing:
        clauses.append(f"but {_count(results.missing, 'event')} never came")
    doubt = "; read the warnings first" * any(warnings(results))
    return ", ".join(clauses) + f"{doubt}."


def warnings(results: Results) -> Iterator[str]:
    """Yield the reasons why the figures may not be the server's."""
    plan, late = results.plan, results.late
    if results.cpu and (busiest := max(results.cpu)) > BUSY:
        yield (
            f"The load generator was the limit: a process used {busiest:.0%} of a core, so rates "
            "and latencies are its own. Use more --processes, or less load."
        )
    if results.held:
        yield (
            "The server did not keep up with the rate, or --max-in-flight is too low: "
            f"{results.held:,} of {late.count + results.not_started:,} calls waited for one of "
            f"{plan.concurrency:,} others to be answered. Latencies include the wait."
        )
    elif (p99 := late.percentiles()[_P99]) > LATE_MS:
        yield (
            f"The load generator itself began 1 % of the calls more than {p99:,.1f} ms late, "
            "which their latencies include. Use more --processes, or a machine with less to do."
        )
    if results.not_started:
        yield (
            f"{results.not_started:,} calls were still waiting at the end, and were not made: the "
            "rate was not reached, and the longest latencies are missing. Use a lower --rate."
        )


def status_line(results: Results, now: float) -> str:
    """Return the rate, the worst p99 and the failures so far.

    Return an empty line while too little is counted for a rate.
    """
    seconds = results.counted_seconds(now)
    calls = [latencies for name, latencies in results.latencies.items() if name != EVENTS]
    count = sum(latencies.count for latencies in calls)
    if seconds < MIN_RATE_SECONDS or not count:
        return ""
    p99 = _milliseconds(max(latencies.percentiles()[_P99] for latencies in calls))
    failed = sum(map(results.failed, results.latencies))
    failures = f"  failed {failed:,}" if failed else ""
    return f"{count / seconds:,.0f}/s  p99 {p99}{failures}"
