"""The table of figures."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

#: Columns where there is no terminal that has a width.
WIDTH = 150


def show(figures: Sequence[Figure]) -> None:
    """Prints medians, the least and the greatest of the rounds, and whether targets are met."""
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
            told(figure.ours_median, figure.ours),
            told(figure.theirs_median, figure.theirs),
            figure.unit,
            told(figure.ratio, figure.ratios),
            f"{figure.target} {mark}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


def told(value: float | None, rounds: Sequence[float]) -> str:
    """A median, and beneath it between what the rounds lay."""
    if value is None:
        return ""
    return f"{short(value)}\n[dim]{short(min(rounds))}-{short(max(rounds))}[/]"


def short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 (three digits)
