"""Results for people and for scripts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from feedsvc.cli.load_test.latencies import PERCENTILES
from feedsvc.cli.load_test.plan import EVENTS
from feedsvc.cli.load_test.results import Results
from feedsvc.cli.rendering import console

#: How much of a core a process may use before its figures are its own limit.
BUSY = 0.9
#: Milliseconds that one in a hundred calls may be late.
LATE_MS = 5.0
#: Milliseconds from which on fractions are of no interest.
TO_THE_POINT_MS = 1000.0

_NAMES = [f"p{one:g}" for one in PERCENTILES]
_P99 = PERCENTILES.index(99)


def as_dict(results: Results) -> dict[str, Any]:
    """Ready for JSON."""
    plan = results.plan
    found: dict[str, Any] = {
        "ok": results.succeeded,
        "server": plan.server,
        "prefix": plan.prefix,
        "seed": plan.seed,
        "loop": "closed" if plan.rate is None else "open",
        "seconds": round(results.seconds, 3),
        "interrupted": results.interrupted,
        "kinds": {name: _figures_of(results, name) for name in results.latencies},
        "generator": {"cpu": [round(one, 3) for one in results.cpu]},
        "warnings": list(warnings(results)),
    }
    if plan.rate is not None:
        found["generator"] |= {
            "late_ms": {"p99": results.late.percentiles()[_P99], "max": results.late.longest},
            "held": results.held,
            "not_started": results.not_started,
        }
    return found


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


def show(results: Results) -> None:
    """Prints all of it."""
    out = console()
    out.print(_headline(results), style="bold")
    out.print(_table(results))
    for note in _notes(results):
        out.print(note, style="dim")
    for warning in warnings(results):
        out.print(f"WARNING  {warning}", style="yellow")


def write_distributions(results: Results, path: Path) -> None:
    """One file a kind, its name before the suffix. Raises OSError."""
    for name, latencies in results.latencies.items():
        text = "".join(f"{line}\n" for line in latencies.distribution())
        path.with_suffix(f".{name}{path.suffix}").write_text(text, encoding="ascii")


def _table(results: Results) -> Table:
    """One row a kind, latencies in milliseconds. Fits into 80 columns up to a million calls."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("")
    for heading in ("ok", "failed", "per s", *_NAMES, "max"):
        shown.add_column(heading, justify="right")
    for name, latencies in results.latencies.items():
        values = [*latencies.percentiles(), latencies.longest] if latencies.count else []
        shown.add_row(
            name,
            f"{latencies.count:,}",
            f"{results.failed(name):,}",
            f"{results.rate(name):,.1f}",
            *(f"{one:,.2f}" if one < TO_THE_POINT_MS else f"{one:,.0f}" for one in values),
        )
    return shown


def _headline(results: Results) -> str:
    """What was run."""
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
    """What one has to know to read the table."""
    plan = results.plan
    for name in results.latencies:
        if errors := results.errors(name):
            yield f"Failed {name}: " + ", ".join(f"{n:,} {why}" for why, n in errors.items())
    if plan.rate is None:
        yield (
            "Latencies in ms: the service times of a closed loop, which makes fewer calls when the "
            "server is slow. Use --rate to see what callers would wait."
        )
    else:
        yield "Latencies in ms, from when a call was due, whenever it was begun."
        late = results.late
        yield f"Late starts: p99 {late.percentiles()[_P99]:,.2f} ms, max {late.longest:,.2f} ms."
    if plan.subscriptions:
        yield f"Events: from when the publish was due; through {plan.subscriptions:,} streams."
    if results.cpu:
        shares = ", ".join(f"{one:.0%}" for one in results.cpu)
        yield f"Client CPU: {shares} of a core."


def warnings(results: Results) -> Iterator[str]:
    """Why the figures may not be the server's."""
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
            "rate was not reached, and the longest latencies are missing."
        )


def live(results: Results, now: float) -> str:
    """How the run gets on, in a few words."""
    seconds = results.counted_seconds(now)
    calls = {name: one for name, one in results.latencies.items() if name != EVENTS}
    count = sum(one.count for one in calls.values())
    if not (seconds and count):
        return ""
    p99 = ", ".join(f"{name} {one.percentiles()[_P99]:,.1f}" for name, one in calls.items())
    failed = sum(map(results.failed, results.latencies))
    trouble = f"  failed {failed:,}" if failed else ""
    return f"{count / seconds:,.0f}/s  p99 ms: {p99}{trouble}"
