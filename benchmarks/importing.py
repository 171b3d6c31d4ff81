"""Import: follows and activities a second by ``feedsvc import``, and who works for how long.

A part of a real Twitter graph, higgs-small (docs/testing.md): 95,008 follows, of
which most are inferred from interactions, and then 20,000 activities of its users, in two runs of
the program with its own batches; 5,000 lines of each in a quick run. All feeds are cold, so nothing
is delivered. Rates are of the program's own `seconds`, without its start; CPU seconds are those of
the whole run, by process. Each round has a new store. There is no alternative. Without the data
there are no figures.
"""

import asyncio
import gzip
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale
from benchmarks.stage import Stage, cpu_seconds, stage
from tests.data.location import DataMissing, directory_of

#: In the order of import.
KINDS = ("follows", "activities")


@dataclass(frozen=True, slots=True)
class Run:
    """What one import came to."""

    rate: float
    """Rows a second."""
    cpu: dict[str, float]
    """Seconds, by process."""


async def measure(scale: Scale, report: Progress) -> list[Figure]:
    """Rates and CPU seconds of both files."""
    try:
        folder = directory_of("higgs-small")
    except DataMissing as missing:
        report.tell(f"import: skipped. {missing}")
        return []
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="feedsvc-bench-") as scratch:
        files = {
            kind: _shortened(folder / f"{kind}.tsv.gz", scale.import_rows, Path(scratch))
            for kind in KINDS
        }
        for _ in range(scale.few_rounds):
            async with stage() as on:
                for kind in KINDS:
                    done = sum(map(len, runs.values()))
                    report.turn("imports", kind, done, len(KINDS) * scale.few_rounds)
                    runs[kind].append(await _import(on, files[kind], kind))
    figures = []
    for kind, of_kind in runs.items():
        rates = tuple(run.rate for run in of_kind)
        figures.append(Figure(f"import of {kind}", f"{kind}/s", "", rates))
        for name in of_kind[0].cpu:
            used = tuple(run.cpu[name] for run in of_kind)
            figures.append(Figure(f"import of {kind}, {name}", "CPU s", "", used))
    return figures


def _shortened(file: Path, rows: int | None, folder: Path) -> Path:
    if rows is None:
        return file
    part = folder / file.stem
    with gzip.open(file, "rt") as whole:
        part.write_text("".join(islice(whole, rows)))
    return part


async def _import(on: Stage, file: Path, kind: str) -> Run:
    pids = {"server": on.server_pid, "store": on.store_pid}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    children = _children_seconds()
    result = json.loads(await asyncio.to_thread(_run, on.target, file))
    if result["refused"] or result["malformed"] or result["duplicates"]:
        raise RuntimeError(f"the import was not clean: {result}")
    cpu = {"client": _children_seconds() - children}
    for name, pid in pids.items():
        begun, ended = before[name], cpu_seconds(pid)
        if begun is not None and ended is not None:
            cpu[name] = ended - begun
    return Run(result[kind] / result["seconds"], cpu)


def _run(target: str, file: Path) -> bytes:
    arguments = ["import", "--preset", "higgs", "--json", str(file), "--server", target]
    return subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-m", "feedsvc", *arguments], stdout=subprocess.PIPE, check=True
    ).stdout


def _children_seconds() -> float:
    """CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
