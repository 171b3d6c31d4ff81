"""The command line of a kind of run."""

import sys
import time
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.harness.run import Kind, Totals, Violated, run
from tests.harness.stage import Mode


def command_of(kind: Kind[Any, Any, Any]) -> click.Command:
    """Return the command that plays and judges histories of a kind, and exits 1 at a violation."""

    def main(seconds: float, seed: str, keep: Path | None, mode: Mode | None = None) -> None:
        console = Console(stderr=True, highlight=False)
        seed = seed or str(int(time.time()))
        totals, violated = _run(kind, console, seconds=seconds, seed=seed, keep=keep, mode=mode)
        if violated:
            console.print(str(violated), markup=False, soft_wrap=True)
            console.print("[red]a promise was not kept")
        console.print(_table_of(totals, seed))
        sys.exit(1 if violated else 0)

    options = [
        click.Option(
            ["--seconds"], default=600.0, show_default=True, help="Seconds to play histories for."
        ),
        click.Option(
            ["--seed"], default="", help="Seed of the random calls and faults.  [default: the time]"
        ),
        click.Option(
            ["--keep"],
            type=click.Path(path_type=Path),
            help="Folder in which to keep logs, stores and stories.",
        ),
    ]
    if len(kind.modes) > 1:
        modes = click.Choice(kind.modes)
        text = "Play only histories in this mode.  [default: each in turn]"
        options.append(click.Option(["--mode"], type=modes, help=text))
    return click.Command(
        kind.name,
        callback=main,
        params=list(options),
        help=kind.description,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _run(
    kind: Kind[Any, Any, Any],
    console: Console,
    *,
    seconds: float,
    seed: str,
    keep: Path | None,
    mode: Mode | None,
) -> tuple[Totals[Any], Violated | None]:
    """Run a kind and show its progress; return what was judged, and the violation if any."""
    totals, began = kind.new_totals(), time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[judged]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"seed {seed}", total=seconds, judged="")

        def report(title: str, totals_so_far: Totals[Any]) -> None:
            nonlocal totals
            totals = totals_so_far
            elapsed = min(seconds, time.monotonic() - began)
            judged = f"{totals.histories} judged, {totals.published:,} publishes"
            progress.update(task, completed=elapsed, description=title, judged=judged)
            if not console.is_terminal:
                console.print(f"{title}: {judged}")

        modes = [mode] if mode else []
        try:
            uvloop.run(run(kind, seed, seconds=seconds, modes=modes, report=report, keep=keep))
        except Violated as violated:
            return totals, violated
        progress.update(task, completed=seconds)
    return totals, None


def _table_of(totals: Totals[Any], seed: str) -> Table:
    """Return the table of what was judged."""
    table = Table("judged", title=f"Seed {seed}")
    table.add_column("count", justify="right")
    for name, number in (*totals.rows().items(), *sorted(totals.faults.items())):
        table.add_row(name, f"{number:,}")
    return table
