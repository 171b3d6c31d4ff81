"""``python -m tests.streams``."""

import sys
import time
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.streams.run import Totals, Violated, run


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=600.0, show_default=True, help="How long to play histories.")
@click.option("--seed", default="", help="What is asked and broken.  [default: the time]")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="A folder to leave logs and stores in."
)
def main(*, seconds: float, seed: str, keep: Path | None) -> None:
    """Break what live streams stand on at random, and judge whether they keep their promises.

    Each history has a few seconds of traffic against two servers and a worker, and subscribers of
    each kind that hop between them, while processes are killed, stopped and drained, connections
    cut, and logs trimmed and deleted. Then it comes to rest, everybody reads to the end, and some
    of the tokens are resumed once more.

    Exits 1, and tells the story, if a promise was not kept.
    """
    console = Console(stderr=True, highlight=False)
    seed = seed or str(int(time.time()))
    totals, kept, began = Totals(), True, time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[judged]} histories judged"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"seed {seed}", total=seconds, judged=0)

            def tell(what: str, so_far: Totals) -> None:
                nonlocal totals
                totals = so_far
                passed = min(seconds, time.monotonic() - began)
                progress.update(task, completed=passed, description=what, judged=so_far.histories)
                if not console.is_terminal:
                    console.print(f"{what}: {so_far.histories} judged, {so_far.events:,} events")

            totals = uvloop.run(run(seed, seconds=seconds, tell=tell, keep=keep))
            progress.update(task, completed=seconds, judged=totals.histories)
    except Violated as violated:
        console.print(str(violated), markup=False, soft_wrap=True)
        console.print("[red]a promise was not kept")
        kept = False
    console.print(table(totals, seed))
    sys.exit(0 if kept else 1)


def table(totals: Totals, seed: str) -> Table:
    """What was judged."""
    shown = Table("what", title=f"Judged, seed {seed}")
    shown.add_column("how many", justify="right")
    rows = {
        "histories": totals.histories,
        "acknowledged publishes": totals.published,
        "streams and polls": totals.streams,
        "events": totals.events,
        "chains of streams": totals.chains,
        "chains read to the end": totals.whole,
        "tokens resumed once more": totals.replays,
    }
    ends = {f"ended: {how}": number for how, number in sorted(totals.ends.items())}
    for what, number in (*rows.items(), *ends.items(), *sorted(totals.faults.items())):
        shown.add_row(what, f"{number:,}")
    return shown


if __name__ == "__main__":
    main(prog_name="python -m tests.streams")
