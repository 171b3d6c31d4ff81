"""Reports of results, for people and for scripts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from feedsvc.cli.load_test.latencies import PERCENTILES
from feedsvc.cli.load_test.plan import EVENTS
from feedsvc.cli.load_test.results import Results
from feedsvc.cli.rendering import console

#: Share of a core from which a process of the load generator counts as the limit.
BUSY = 0.9
#: Milliseconds that one call in a hundred may be late without a warning.
LATE_MS = 5.0
#: Milliseconds from which the table shows no fractions.
WHOLE_MS = 1000.0

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


def show(results: Results) -> None:
    """Print the results, notes on how to read them, and warnings."""
    out = console()
    out.print(_headline(results), style="bold")
    out.print(_table(results))
    for note in _notes(results):
        out.print(note, style="dim")
    for warning in warnings(results):
        out.print(f"WARNING  {warning}", style="yellow")


def write_distributions(results: Results, path: Path) -> None:
    """Write a file for each kind, whose name stands before the suffix. Raise OSError."""
    for name, latencies in results.latencies.items():
        text = "".join(f"{line}\n" for line in latencies.distribution())
        path.with_suffix(f".{name}{path.suffix}").write_text(text, encoding="ascii")


def _table(results: Results) -> Table:
    """Return a row for each kind. The table fits into 80 columns up to a million calls."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("ok", "failed", "per s", *_NAMES, "max"):
        table.add_column(heading, justify="right")
    for name, latencies in results.latencies.items():
        values = [*latencies.percentiles(), latencies.longest] if latencies.count else []
        table.add_row(
            name,
            f"{latencies.count:,}",
            f"{results.failed(name):,}",
            f"{results.rate(name):,.1f}",
            *(f"{ms:,.2f}" if ms < WHOLE_MS else f"{ms:,.0f}" for ms in values),
        )
    return table


def _headline(results: Results) -> str:
    """Return the load, its length and its seed in one line."""
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
            "Latencies in ms: the service times of a closed loop, which makes fewer calls when the "
            "server is slow. Use --rate to see what callers would wait."
        )
    else:
        yield "Latencies in ms, from when a call was due, whenever it began."
        late = results.late
        yield f"Late starts: p99 {late.percentiles()[_P99]:,.2f} ms, max {late.longest:,.2f} ms."
    if plan.subscriptions:
        yield f"Events: from when the publish was due; through {plan.subscriptions:,} streams."
    if results.cpu:
        shares = ", ".join(f"{share:.0%}" for share in results.cpu)
        yield f"Client CPU: {shares} of a core."


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
    """Return the rate, the p99 and the failures so far, or an empty line before the first call."""
    seconds = results.counted_seconds(now)
    calls = {name: latencies for name, latencies in results.latencies.items() if name != EVENTS}
    count = sum(latencies.count for latencies in calls.values())
    if not (seconds and count):
        return ""
    p99 = ", ".join(
        f"{name} {latencies.percentiles()[_P99]:,.1f}" for name, latencies in calls.items()
    )
    failed = sum(map(results.failed, results.latencies))
    failures = f"  failed {failed:,}" if failed else ""
    return f"{count / seconds:,.0f}/s  p99 ms: {p99}{failures}"
