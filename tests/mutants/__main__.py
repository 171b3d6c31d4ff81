"""Put known bugs back, one at a time, and check that the tests notice each.

``python -m tests.mutants [NAME ...]`` copies the project for each bug, puts the bug into the copy,
and runs the tests that must notice it. Exits with 1 if the tests miss a bug. The same tests must
first pass without any bug.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.mutants.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]
#: Folders and files that the tests need.
COPIED_FOLDERS, COPIED_FILE = ("docs", "feedsvc", "tests"), "pyproject.toml"
#: Seconds after which a bug that makes the tests hang counts as noticed.
HANG_SECONDS = 150
#: Most seconds that the tests of all bugs may take without any bug.
CLEAN_SECONDS = 1_800
#: pytest's exit codes.
PASSED, FAILED = 0, 1
PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header"),
    *("-n", "2", "--timeout", "60", "-m", "not slow", "--hypothesis-profile", "unshrunk"),
)


def main(names: list[str]) -> int:
    """Put the named bugs back, or all; return the exit code."""
    bugs = [bug for bug in BUGS if not names or bug.name in names]
    if unknown_names := set(names) - {bug.name for bug in bugs}:
        print(f"no such bug: {', '.join(sorted(unknown_names))}", file=sys.stderr)
        return 2
    for bug in bugs:  # before anything that takes minutes
        put_in(ROOT, bug, write=False)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        tests = sorted({test for bug in bugs for test in bug.tests})
        code, _ = run_tests(copy_project(Path(folder) / "none"), tests, CLEAN_SECONDS)
        if code != PASSED:
            console.print("[red]the tests fail without any bug")
            return 1
        missed = put_back(bugs, Path(folder), console)
    console.print(f"{len(bugs) - missed} passed, {missed} failed")
    return 1 if missed else 0


def put_back(bugs: Sequence[Bug], folder: Path, console: Console) -> int:
    """Run the tests of each bug in a copy with the bug; return how many bugs they missed."""
    table = Table("bug", "seconds", title="Known bugs, put back")
    table.add_column("noticed by", overflow="fold")
    missed = 0
    for bug in track(bugs, "putting bugs back", console=console, transient=True):
        began = time.monotonic()
        project = copy_project(folder / bug.name)
        put_in(project, bug)
        code, noticed_by = run_tests(project, bug.tests, HANG_SECONDS)
        if code != FAILED:
            missed += 1
            noticed_by = f"[red]nothing (exit code {code})"
        seconds = f"{time.monotonic() - began:.0f}"
        console.print(f"{bug.name}: {seconds} s, {noticed_by}")
        table.add_row(bug.mistake, seconds, noticed_by)
        shutil.rmtree(project)
    console.print(table)
    return missed


def copy_project(project: Path) -> Path:
    """Copy what the tests need; a Python that starts in the copy imports the copy."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED_FOLDERS:
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    shutil.copy(ROOT / COPIED_FILE, project)
    return project


def put_in(project: Path, bug: Bug, *, write: bool = True) -> None:
    """Put a bug into a project. Exit if a right text does not stand in its file exactly once."""
    for file, right, wrong in bug.changes:
        path = project / "feedsvc" / file
        source = path.read_text()
        if source.count(right) != 1:
            raise SystemExit(
                f"{bug.name}: {file} must hold this text once, but holds it "
                f"{source.count(right)} times: {right}"
            )
        if write:
            path.write_text(source.replace(right, wrong))


def run_tests(project: Path, tests: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run tests in a project; return pytest's exit code and the first test that failed."""
    try:
        done = subprocess.run(
            [*PYTEST, *tests],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return FAILED, "hanging"
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if not failures:
        return done.returncode, ""
    # Two test processes that stop at the first failure exit as if they were interrupted.
    return FAILED, failures[0].split(" - ")[0].removeprefix("FAILED tests/")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
