"""The progress of an import on stderr: a bar on a terminal, otherwise a line now and then."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from feedsvc.cli.importing.rejects import Reject
from feedsvc.cli.importing.report import MAX_REJECTS
from feedsvc.cli.rendering import plain

#: Seconds between two lines of progress where stderr is no terminal.
LINE_SECONDS = 10.0
#: Columns that the bar takes besides the other parts of its line, which has 60 columns.
BAR_COLUMNS = 8


class ImportProgress:
    """The progress of each step, and complaints about rows, both on stderr.

    A broken stderr does not end the import: what cannot be written is left out.
    """

    def __init__(self, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """``quiet`` writes complaints only."""
        self._out = Console(stderr=True, soft_wrap=True, highlight=False)
        self._has_bar = self._out.is_terminal and not quiet
        self._has_lines = not self._out.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(BAR_COLUMNS),
            TaskProgressColumn(),
            _CountAndRate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._out,
            disable=not self._has_bar,
        )
        self._task: TaskID | None = None
        self._clock = clock
        self._step, self._unit = "", ""
        self._step_start = 0.0
        self._total = self._done = self._count = 0
        self._complaints = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._bar.stop()
        if (unreported := self._complaints - MAX_REJECTS) > 0:
            self.say(f"... and {unreported:,} more rows")

    def begin(self, step: str, unit: str, total: int) -> None:
        """Begin a step. ``unit``: what it counts. ``total``: bytes of files, or feeds."""
        self._step, self._unit, self._total = step, unit, total
        self._done = self._count = 0
        self._step_start = self._clock()
        self._task = self._bar.add_task(step, total=total, count=0)

    def advance(self, done: int, count: int) -> None:
        """Note that ``done`` of the total is done, and ``count`` rows or feeds with it."""
        self._done, self._count = done, count
        if self._task is not None and self._has_bar:
            self._bar.update(self._task, completed=done, count=count)

    def complain(self, reject: Reject) -> None:
        """Report a row that the import does not take, if it is one of the first."""
        self._complaints += 1
        if self._complaints <= MAX_REJECTS:
            self.say(f"{reject.file}:{reject.line}: {reject.rule}")

    def say(self, text: str) -> None:
        """Write a line."""
        with suppress(OSError):
            if self._has_bar:
                self._out.print(Text(plain(text)))
            else:
                click.echo(plain(text), err=True)

    async def write_lines(self) -> None:
        """Write a line of progress every LINE_SECONDS, unless stderr is a terminal."""
        while self._has_lines:
            await asyncio.sleep(LINE_SECONDS)
            self.say(self.line())

    def line(self) -> str:
        """Return the progress of the step as a line of text."""
        seconds = self._clock() - self._step_start
        share = self._done / self._total if self._total else 0.0
        text = f"{self._step}: {share:.0%}, {self._count:,} {self._unit}"
        if seconds:
            text += f", {self._count / seconds:,.0f} {self._unit}/s"
        if share:
            text += f", {_duration(seconds / share - seconds)} remaining"
        return text


class _CountAndRate(ProgressColumn):
    """The number of rows or feeds, in all and each second."""

    def render(self, task: Task) -> Text:
        count = int(task.fields["count"])
        elapsed = task.finished_time or task.elapsed
        rate = f"{count / elapsed:>9,.0f}/s" if elapsed else ""
        return Text(f"{count:>11,}{rate}")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
