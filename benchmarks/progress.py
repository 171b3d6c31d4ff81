"""Shows what is being measured."""

from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console


class Progress:
    """Bars of the scenario, its turn and its phase, on stderr; a few lines if it is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._scenario: progress.TaskID | None = None
        self._turn: progress.TaskID | None = None
        self._phase: progress.TaskID | None = None
        self._what = ""

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

    def scenario(self, name: str, done: int, total: int) -> None:
        """A scenario begins, after ``done`` of ``total`` others."""
        self._scenario = self._bar(self._scenario, name, total, done)
        self._remove(self._turn, self._phase)
        self._turn = self._phase = None
        self._told(name)

    def turn(self, what: str, side: str, done: int, total: int) -> None:
        """A turn begins, after ``done`` of ``total`` others, of all rounds and sides."""
        self._turn = self._bar(self._turn, f"{what}: {side}", total, done)
        self._remove(self._phase)
        self._phase = None
        self._told(what)

    def phase(self, text: str, steps: int) -> None:
        """A part of a scenario or turn begins, which will ``advance`` by so many steps."""
        self._phase = self._bar(self._phase, text, steps, 0)

    def advance(self, steps: int = 1) -> None:
        if self._phase is not None:
            self._bars.advance(self._phase, steps)

    def tell(self, text: str) -> None:
        """Says something that is to stay."""
        self._console.print(text)

    def _told(self, what: str) -> None:
        if not self._console.is_terminal and what != self._what:
            self._console.print(what)
        self._what = what

    def _bar(
        self, task: progress.TaskID | None, text: str, total: int, done: int
    ) -> progress.TaskID:
        if task is None:
            return self._bars.add_task(text, total=total, completed=done)
        self._bars.update(task, description=text, total=total, completed=done)
        return task

    def _remove(self, *tasks: progress.TaskID | None) -> None:
        for task in tasks:
            if task is not None:
                self._bars.remove_task(task)
