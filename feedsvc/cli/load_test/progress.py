"""Bars on stderr that show the progress of a run, if stderr is a terminal.

A terminal that cannot move its cursor (TERM=dumb) gets the name of each step in a line.
"""

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from feedsvc.cli.rendering import console, has_cursor, plain, print_lines

#: Columns of a terminal from which it shows long bars and times, and columns of the bars.
WIDE, BAR_WIDTH, SHORT_BAR_WIDTH = 60, 20, 6


class Progress:
    """A bar for each step. ``begin`` a step, then ``advance`` it."""

    def __init__(self, *, quiet: bool, columns: Sequence[ProgressColumn] = ()) -> None:
        """Make bars with the default columns, or ``columns``. ``quiet`` hides them, but no line."""
        self._out = console(stderr=True)
        has_bars = has_cursor(self._out) and not quiet
        columns = columns or _columns(is_wide=self._out.width >= WIDE)
        self._bars = Bars(*columns, console=self._out, disable=not has_bars)
        self._has_lines = self._out.file.isatty() and not has_bars and not quiet
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
        if self._has_lines:
            self.print_line(step)

    def advance(self, amount: float = 1, figures: str = "") -> None:
        """Move the bar of the step, and show ``figures`` beside it."""
        if self._step is not None:
            self._bars.update(self._step, advance=amount, figures=figures)

    def finish(self, figures: str = "") -> None:
        """Fill the bar of the step."""
        for task in self._bars.tasks:
            if task.id == self._step:
                self._bars.update(task.id, completed=task.total, figures=figures)

    def print_line(self, text: str) -> None:
        """Print a line that stays when the bars have gone.

        A signal handler may call this at any moment. If the handler has interrupted a write to
        stderr, which Python does not let it repeat, the line goes past the bars.
        """
        try:
            print_lines(self._out, plain(text), indent=0)
        except RuntimeError:
            os.write(sys.stderr.fileno(), f"{plain(text)}\n".encode())

    def print_command(self, command: str) -> None:
        """Print a command to copy, which is not wrapped, as `print_line` prints lines."""
        try:
            self._out.print(Text(f"  {plain(command)}"))
        except RuntimeError:
            os.write(sys.stderr.fileno(), f"  {plain(command)}\n".encode())

    def abandon(self) -> None:
        """Leave the bars as they are, for a process that ends at once: show the cursor again."""
        if not self._bars.disable:
            self._out.show_cursor()
            self._out.file.write("\n")
            self._out.file.flush()


def _columns(*, is_wide: bool) -> list[ProgressColumn]:
    remaining = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    return [
        TextColumn("{task.description:<12}"),
        BarColumn(BAR_WIDTH if is_wide else SHORT_BAR_WIDTH),
        *([remaining] if is_wide else []),
        TextColumn("{task.fields[figures]}"),
    ]
