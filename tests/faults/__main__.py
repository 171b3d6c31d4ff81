"""``python -m tests.faults``."""

import sys
import time
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.table import Table

from tests.faults.run import MODES, Totals, Violated, run
from tests.faults.stage import Mode


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=600.0, show_default=True, help="How long to play histories.")
@click.option("--seed", default="", help="What is asked and broken.  [default: the time]")
@click.option(
    "--mode", type=click.Choice(MODES), help="Only histories of this kind.  [default: each in turn]"
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="A folder to leave logs and stores in."
)
def main(*, seconds: float, seed: str, mode: Mode | None, keep: Path | None) -> None:
    """Break the service in every way at random, and judge whether it keeps its promises.

    Each history has a few seconds of traffic against two servers and a worker while processes are
    killed and stopped, connections cut and clocks stepped; then it comes to rest, and everything
    that was answered must hold. In mode "lost tail" the store also forgets its last writes. In mode
    "failover" it has a replica, which takes its place while it still takes writes itself, or dies;
    then it is the replica.

    Exits 1, and tells the story, if a promise was not kept.
    """
    console = Console(stderr=True, highlight=False)
    seed = seed or str(int(time.time()))
    totals, kept = Totals(), True
    try:
        with console.status(f"seed {seed}") as status:

            def tell(what: str, so_far: Totals) -> None:
                nonlocal totals
                totals = so_far
                text = f"{what}: {so_far.histories} kept, {so_far.published:,} publishes"
                status.update(text)
                if not console.is_terminal:
                    console.print(text)

            totals = uvloop.run(run(seconds, seed, [mode] if mode else MODES, tell=tell, keep=keep))
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
        "calls": totals.calls,
        "calls that failed": totals.unknown,
        "acknowledged publishes": totals.published,
        "feeds walked": totals.walks,
    } | {f"plain calls: {code}": number for code, number in sorted(totals.plain.items())}
    for what, number in (*rows.items(), *sorted(totals.faults.items())):
        shown.add_row(what, f"{number:,}")
    return shown


if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
