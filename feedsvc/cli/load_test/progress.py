"""A bar for each step, on stderr if that is a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from feedsvc.cli.rendering import plain


class Progress:
    """One step at a time: ``begin`` it, then ``advance``."""

    def __init__(self, *, quiet: bool) -> None:
        """``quiet`` is about bars only; what goes wrong is told all the same."""
        self._out = Console(stderr=True, soft_wrap=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
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
        self._step = self._bars.add_task(step, total=total, figures="")

    def advance(self, by: float, figures: str = "") -> None:
        if self._step is not None:
            self._bars.update(self._step, advance=by, figures=figures)

    def complain(self, text: str) -> None:
        self._out.print(Text(plain(text)))
