"""Bars that show which turn of which scenario is being measured."""

from rich import progress

from feedsvc.cli.load_test import progress as load_test_progress


class Progress(load_test_progress.Progress):
    """Bars of the scenario, its turn and its step on stderr; a few lines if it is no terminal."""

    def __init__(self) -> None:
        super().__init__(
            quiet=False,
            columns=[
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
            ],
        )
        self._scenario: progress.TaskID | None = None
        self._turn: progress.TaskID | None = None
        self._last_line = ""

    def scenario(self, name: str, done: int, total: int) -> None:
        """Begin a scenario, after ``done`` of ``total`` others."""
        self._scenario = self._bar(self._scenario, name, total, done)
        self._remove(self._turn, self._step)
        self._turn = self._step = None
        self._print_once(name)

    def turn(self, title: str, side: str, done: int, total: int) -> None:
        """Begin a turn, after ``done`` of ``total`` others, of all rounds and sides."""
        self._turn = self._bar(self._turn, f"{title}: {side}", total, done)
        self._remove(self._step)
        self._step = None
        self._print_once(title)

    def begin(self, step: str, total: float = 0) -> None:
        """Begin a step of a scenario or turn, in place of the step before."""
        self._step = self._bar(self._step, step, total, 0)

    def _print_once(self, line: str) -> None:
        if not self._out.is_terminal and line != self._last_line:
            self.print_line(line)
        self._last_line = line

    def _bar(
        self, task: progress.TaskID | None, text: str, total: float, done: int
    ) -> progress.TaskID:
        if task is None:
            return self._bars.add_task(text, total=total, completed=done)
        self._bars.update(task, description=text, total=total, completed=done)
        return task

    def _remove(self, *tasks: progress.TaskID | None) -> None:
        for task in tasks:
            if task is not None:
                self._bars.remove_task(task)
