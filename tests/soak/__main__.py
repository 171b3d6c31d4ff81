"""``python -m tests.soak``: whether anything grows that should have come to rest.

A server and its store, with small limits and short lives of everything that has an end. Publishes
go into full outboxes, half of them `to` others; live subscribers come and go; feeds are read, also
below what is stored of them; edges come and go. The first third of the time fills what there is to
fill. From then on neither the memory of the server or the store nor any kind of key may grow: the
last third is compared with the one before it.
"""

import sys
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.soak.samples import Series
from tests.soak.world import soak


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=5.0, show_default=True, help="How long it goes on.")
@click.option("--rate", default=200.0, show_default=True, help="Activities published a second.")
def main(*, minutes: float, rate: float) -> None:
    """Publish into full outboxes for minutes; exit 1 if memory or any kind of key keeps growing."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    seconds = 60 * minutes
    with (
        tempfile.TemporaryDirectory(prefix="feedsvc-soak-") as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("soaking", total=seconds, said="")

        def tell(passed: float, said: str) -> None:
            progress.update(task, completed=passed, said=said)
            if not console.is_terminal:
                console.print(f"{passed:.0f} s: {said}")

        found = uvloop.run(soak(Path(folder), seconds=seconds, rate=rate, tell=tell))
    console.print(table(found))
    grown = [one.name for one in found if one.grows]
    if grown:
        console.print(f"[red]keeps growing: {', '.join(grown)}")
    sys.exit(1 if grown else 0)


def table(found: list[Series]) -> Table:
    """What was looked at, in the three thirds of the time."""
    shown = Table("what", title="Medians of each third")
    for third in ("first", "second", "last"):
        shown.add_column(third, justify="right")
    shown.add_column("grows", justify="right")
    for one in sorted(found, key=lambda series: series.name):
        cells = [f"{median:,.1f}" if one.unit else f"{median:,.0f}" for median in one.thirds]
        shown.add_row(f"{one.name} {one.unit}".strip(), *cells, "[red]yes" if one.grows else "no")
    return shown


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
