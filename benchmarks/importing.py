"""Import: follows and activities a second by ``feedsvc import``, and the CPU time of each process.

A part of a real Twitter graph, higgs-small (docs/testing.md): 95,008 follows, of which most are
inferred from interactions, and then 20,000 activities of its users, in two runs of the program with
its own batches; 5,000 lines of each in a quick run. All feeds are cold, so nothing is delivered.
Rates are of the program's own `seconds`, without its start; CPU seconds are those of the whole run,
by process. Each round has a new store. The scenario has no alternative, and gives no figures
without the data.
"""

import asyncio
import gzip
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Figure
from benchmarks.harness.processes import CpuMeter
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale
from benchmarks.harness.stage import Stage, open_stage
from tests.data.location import DataMissing, directory_of

#: Kinds of rows, in the order of import.
KINDS = ("follows", "activities")


@dataclass(frozen=True, slots=True)
class Run:
    """The result of an import."""

    rate: float
    """Rows a second."""
    cpu: dict[str, float]
    """CPU seconds by process."""


async def measure(scale: Scale, progress: Progress) -> list[Figure]:
    """Return rates and CPU seconds of both files."""
    folder = data_folder("higgs-small", progress)
    if folder is None:
        return []
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="feedsvc-bench-") as scratch:
        files = {
            kind: _shortened(folder / f"{kind}.tsv.gz", scale.import_rows, Path(scratch))
            for kind in KINDS
        }
        for _ in range(scale.slow_rounds):
            async with open_stage() as stage:
                for kind in KINDS:
                    done = sum(map(len, runs.values()))
                    progress.turn("imports", kind, done, len(KINDS) * scale.slow_rounds)
                    runs[kind].append(await _import(stage, files[kind], kind))
    figures = []
    for kind, runs_of_kind in runs.items():
        rates = tuple(run.rate for run in runs_of_kind)
        figures.append(Figure(f"import of {kind}", f"{kind}/s", "", rates))
        for process in runs_of_kind[0].cpu:
            seconds = tuple(run.cpu[process] for run in runs_of_kind)
            figures.append(Figure(f"import of {kind}, {process}", "CPU s", "", seconds))
    return figures


def data_folder(name: str, progress: Progress) -> Path | None:
    """Return a folder of real data; if data is missing, say that the scenario is skipped."""
    try:
        return directory_of(name)
    except DataMissing as missing:
        progress.print_line(f"{name}: skipped. {missing}")
        return None


def run_import(target: str, files: Sequence[Path], *, quiet: bool) -> dict[str, Any]:
    """Run ``feedsvc import``, and return its report. ``quiet`` hides its complaints."""
    arguments = ["import", "--format", "higgs", "--json", "--server", target, *map(str, files)]
    run = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "feedsvc", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        check=False,
    )
    report: dict[str, Any] = json.loads(run.stdout)
    if run.returncode != bool(report["refused"] or report["malformed"]):
        raise RuntimeError(f"the import failed: {report}")
    return report


def _shortened(file: Path, rows: int | None, folder: Path) -> Path:
    if rows is None:
        return file
    part = folder / file.stem
    with gzip.open(file, "rt") as whole:
        part.write_text("".join(islice(whole, rows)))
    return part


async def _import(stage: Stage, file: Path, kind: str) -> Run:
    meter = CpuMeter({"server": stage.server_pid, "store": stage.store_pid})
    children = _children_seconds()
    report = await asyncio.to_thread(run_import, stage.target, [file], quiet=False)
    if report["refused"] or report["malformed"] or report["duplicates"]:
        raise RuntimeError(f"the import was not clean: {report}")
    cpu = {"client": _children_seconds() - children} | meter.used()
    return Run(report[kind] / report["seconds"], cpu)


def _children_seconds() -> float:
    """Return the CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
