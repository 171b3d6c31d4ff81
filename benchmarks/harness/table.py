"""The table of figures on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness.figures import Figure, short

#: Columns if the output is not a terminal, which has a width of its own.
WIDTH = 150


def show(figures: Sequence[Figure]) -> None:
    """Print medians, the least and greatest value of the rounds, and which targets are met."""
    table = Table(title="medians (least-greatest of the rounds)", title_justify="left")
    table.add_column("figure")
    table.add_column("ours", justify="right")
    table.add_column("theirs", justify="right")
    table.add_column("unit", style="dim")
    table.add_column("ratio", justify="right")
    table.add_column("target", justify="right")
    for figure in figures:
        against = f"\n[dim]against {figure.against}[/]" if figure.against else ""
        mark = {None: "", True: "[green]✓[/]", False: "[red]✗[/]"}[figure.met]
        table.add_row(
            figure.name + against,
            _cell(figure.ours_median, figure.ours),
            _cell(figure.theirs_median, figure.theirs),
            figure.unit,
            _cell(figure.ratio, figure.ratios),
            f"{figure.target} {mark}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


def _cell(median: float | None, rounds: Sequence[float]) -> str:
    """Return a median, and below it the least and greatest value of the rounds."""
    if median is None:
        return ""
    return f"{short(median)}\n[dim]{short(min(rounds))}-{short(max(rounds))}[/]"
