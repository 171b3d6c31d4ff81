"""``python -m tests.soak``: publish for minutes and check that nothing keeps growing.

A server and its store run with small limits and short lives of everything that has an end.
Publishes go into full outboxes, half of them `to` other entities. Streams and edges come and go;
feeds are read at their top and below their warm part. The first third of the time fills what can be
filled. From then on neither the memory of the server and the store nor the number of keys of any
kind may grow: the last third is compared with the one before it.
"""

import sys
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.soak.clients import soak
from tests.soak.samples import Series


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=5.0, show_default=True, help="Minutes to publish for.")
@click.option("--rate", default=200.0, show_default=True, help="Activities published a second.")
def main(*, minutes: float, rate: float) -> None:
    """Publish into full outboxes; exit 1 if memory or the keys of any kind keep growing."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    seconds = 60 * minutes
    with (
        tempfile.TemporaryDirectory(prefix="feedsvc-soak-") as folder,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("soaking", total=seconds, state="")

        def report(elapsed: float, state: str) -> None:
            progress.update(task, completed=elapsed, state=state)
            if not console.is_terminal:
                console.print(f"{elapsed:.0f} s: {state}")

        series = uvloop.run(soak(Path(folder), seconds=seconds, rate=rate, report=report))
    console.print(table_of(series))
    growing = [measure.name for measure in series if measure.grows]
    if growing:
        console.print(f"[red]keeps growing: {', '.join(growing)}")
    sys.exit(1 if growing else 0)


def table_of(series: list[Series]) -> Table:
    """Return the table of all series, with the median of each third of the time."""
    table = Table("what", title="Medians of each third")
    for third in ("first", "second", "last"):
        table.add_column(third, justify="right")
    table.add_column("grows", justify="right")
    for measure in sorted(series, key=lambda measure: measure.name):
        places = 1 if measure.unit else 0
        medians = [f"{median:,.{places}f}" for median in measure.thirds]
        grows = "[red]yes" if measure.grows else "no"
        table.add_row(f"{measure.name} {measure.unit}".strip(), *medians, grows)
    return table


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
