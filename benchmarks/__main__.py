"""``python -m benchmarks``."""

import dataclasses
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import click
import uvloop

from benchmarks import (
    celebrities,
    delivery,
    fairness,
    fanout,
    higgs,
    importing,
    live,
    memory,
    neighbours,
    reading,
    rpc,
)
from benchmarks.harness import results, table
from benchmarks.harness.figures import Figure
from benchmarks.harness.progress import Progress
from benchmarks.harness.scale import Scale

#: Scenarios by name, in the order in which they run.
SCENARIOS: dict[str, Callable[[Scale, Progress], Awaitable[list[Figure]]]] = {
    "fanout": fanout.measure,
    "memory": memory.measure,
    "rpc": rpc.measure,
    "reading": reading.measure,
    "importing": importing.measure,
    "delivery": delivery.measure,
    "fairness": fairness.measure,
    "neighbours": neighbours.measure,
    "celebrities": celebrities.measure,
    "live": live.measure,
    "higgs": higgs.measure,
}

ROOT = Path(__file__).resolve().parent.parent


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Use smaller sizes and fewer rounds: a few minutes.")
@click.option(
    "--only",
    "names",
    type=click.Choice(list(SCENARIOS)),
    multiple=True,
    help="Run this scenario; may be repeated.  [default: all]",
)
@click.option("--rounds", type=click.IntRange(min=1), help="Number of rounds of every figure.")
def main(*, quick: bool, names: tuple[str, ...], rounds: int | None) -> None:
    """Measure the service beside its alternatives and its limits.

    The service and its alternative are measured in the same run and on the same store, in turns,
    for several rounds. Prints medians, and the least and greatest value of the rounds.

    A whole run writes benchmarks/results.json and docs/performance.svg, and takes about 30 minutes
    and 2 GB of memory; after it, `make gen` writes the tables of docs/performance.md. With any
    option both files go to build/ instead. Run it on a machine that does nothing else. The modules
    of benchmarks/ say what is compared, and how.
    """
    try:
        # Imported here, because the import takes a second; before the run, because a run without it
        # could not write its chart.
        from benchmarks.harness import chart  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: install the extra, pip install -e '.[chart]'"
        ) from None
    scale = Scale.quick() if quick else Scale.full()
    if rounds is not None:
        scale = dataclasses.replace(scale, rounds=rounds, slow_rounds=rounds)
    # Alternatives run in this process, so it has the event loop of the service.
    by_scenario = uvloop.run(_measure(scale, names or SCENARIOS))
    figures = [figure for scenario in by_scenario.values() for figure in scenario]
    table.show(figures)
    is_whole = not (quick or names or rounds)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    record = (ROOT / "benchmarks" if is_whole else build) / "results.json"
    results.write(by_scenario, record)
    picture = (ROOT / "docs" if is_whole else build) / "performance.svg"
    chart.draw(figures, picture)
    click.echo(f"wrote {record.relative_to(ROOT)} and {picture.relative_to(ROOT)}")


async def _measure(scale: Scale, names: Collection[str]) -> dict[str, list[Figure]]:
    by_scenario = {}
    with Progress() as progress:
        for number, name in enumerate(names):
            progress.scenario(name, number, len(names))
            by_scenario[name] = await SCENARIOS[name](scale, progress)
    return by_scenario


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
