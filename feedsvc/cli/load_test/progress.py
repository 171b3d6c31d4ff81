"""Bars on stderr that show the progress of a run, if stderr is a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from feedsvc.cli.rendering import plain


class Progress:
    """A bar for each step. ``begin`` a step, then ``advance`` it."""

    def __init__(self, *, quiet: bool, columns: Sequence[ProgressColumn] = ()) -> None:
        """Make bars with the default columns, or ``columns``. ``quiet`` hides them, but no line."""
        self._out = Console(stderr=True, soft_wrap=True, highlight=False)
        self._bars = Bars(
            *(columns or _columns()),
            console=self._out,
            disable=quiet or not self._out.is_terminal,
        )
        self._step: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, step: str, total: float) -> None:
        """Add the bar of a step that ends when ``total`` is reached."""
        self._step = self._bars.add_task(step, total=total, figures="")

    def advance(self, amount: float = 1, figures: str = "") -> None:
        """Move the bar of the step, and show ``figures`` beside it."""
        if self._step is not None:
            self._bars.update(self._step, advance=amount, figures=figures)

    def print_line(self, text: str) -> None:
        """Print a line that stays when the bars have gone."""
        self._out.print(Text(plain(text)))


def _columns() -> list[ProgressColumn]:
    return [
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}"),
    ]
