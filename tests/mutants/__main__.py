"""Put known bugs back, one at a time, and show that the tests notice each.

``python -m tests.mutants [NAME ...]`` makes a copy of the project for each bug, puts the bug in,
and runs the tests that should notice it. Exits with 1 if a bug went unnoticed. The same tests must
first pass without any bug.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.mutants.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]
#: Seconds after which a bug that makes the tests hang has been noticed.
HANGS = 150
#: Seconds that the tests of all bugs may take without any.
WITHOUT = 1_800
#: pytest's exit codes.
PASSED, FAILED = 0, 1


def main(names: list[str]) -> int:
    chosen = [bug for bug in BUGS if not names or bug.name in names]
    if unknown := set(names) - {bug.name for bug in chosen}:
        print(f"no such bug: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    console = Console()
    table = Table("bug", "seconds", title="Known bugs, put back")
    table.add_column("noticed by", overflow="fold")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for bug in chosen:  # before anything that takes minutes
            put_in(ROOT, bug, write=False)
        tests = sorted({test for bug in chosen for test in bug.tests})
        code, _ = run(copied(Path(folder) / "none"), tests, WITHOUT)
        if code != PASSED:
            console.print("[red]the tests fail without any bug")
            return 1
        for bug in track(chosen, "putting bugs back", console=console, transient=True):
            began = time.monotonic()
            project = copied(Path(folder) / bug.name)
            put_in(project, bug)
            code, noticed = run(project, bug.tests)
            if code != FAILED:
                missed += 1
                noticed = f"[red]nothing (exit code {code})"
            console.print(f"{bug.name}: {time.monotonic() - began:.0f} s, {noticed}")
            table.add_row(bug.what, f"{time.monotonic() - began:.0f}", noticed)
            shutil.rmtree(project)
    console.print(table)
    console.print(f"{len(chosen) - missed} passed, {missed} failed")
    return 1 if missed else 0


def copied(project: Path) -> Path:
    """A copy of what the tests run: the first on the path of a python that is started in it."""
    for name in ("docs", "feedsvc", "tests"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    return project


def put_in(project: Path, bug: Bug, *, write: bool = True) -> None:
    for file, right, wrong in bug.changes:
        path = project / "feedsvc" / file
        source = path.read_text()
        if source.count(right) != 1:
            raise SystemExit(
                f"{bug.name}: {file} holds not once but {source.count(right)} times: {right}"
            )
        if write:
            path.write_text(source.replace(right, wrong))


def run(
    project: Path, tests: list[str] | tuple[str, ...], seconds: float = HANGS
) -> tuple[int, str]:
    """pytest's exit code, and the first test that failed."""
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header"),
        *(
            "-n",
            "2",
            "--timeout",
            "60",
            "-m",
            "not slow",
            "--hypothesis-profile",
            "unshrunk",
            *tests,
        ),
    ]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED, "hanging"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    noticed = failed[0].split(" - ")[0].removeprefix("FAILED tests/") if failed else ""
    # Two processes that stop at the first failure say that they were interrupted.
    return FAILED if failed else done.returncode, noticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
