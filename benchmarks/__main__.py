"""``python -m benchmarks``."""

import dataclasses
import json
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
    table,
)
from benchmarks.figures import Figure
from benchmarks.progress import Progress
from benchmarks.scale import Scale

#: In the order they run in.
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
@click.option("--quick", is_flag=True, help="Smaller sizes and fewer rounds: three minutes.")
@click.option(
    "--only",
    "names",
    type=click.Choice(list(SCENARIOS)),
    multiple=True,
    help="Run this scenario; may be repeated. All by default.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of every figure.")
def main(*, quick: bool, names: tuple[str, ...], rounds: int | None) -> None:
    """Measure the service beside its alternatives and its limits.

    Each figure and what it is set against run in the same run and on the same store, in turns,
    several times. Prints medians with the least and the greatest of the rounds.

    A whole run writes benchmarks/results.json and docs/performance.svg, and takes about 30 minutes
    and 2 GB of memory. With any option the two go to build/ instead. Run it on a machine that does
    nothing else; what is compared and how stands in the modules of benchmarks/.
    """
    try:
        # It takes a second, and without it a run would be for nothing.
        from benchmarks import chart  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: install the extra, pip install -e '.[chart]'"
        ) from None
    scale = Scale.quick() if quick else Scale.full()
    if rounds is not None:
        scale = dataclasses.replace(scale, rounds=rounds, few_rounds=rounds)
    # The event loop of all alternatives too, because it is the service's.
    figures = uvloop.run(_measure(scale, names or SCENARIOS))
    table.show(figures)
    whole = not (quick or names or rounds)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    results = (ROOT / "benchmarks" if whole else build) / "results.json"
    results.write_text(json.dumps([figure.as_dict() for figure in figures], indent=2) + "\n")
    picture = (ROOT / "docs" if whole else build) / "performance.svg"
    chart.draw(figures, picture)
    click.echo(f"wrote {results.relative_to(ROOT)} and {picture.relative_to(ROOT)}")


async def _measure(scale: Scale, names: Collection[str]) -> list[Figure]:
    figures: list[Figure] = []
    with Progress() as report:
        for number, name in enumerate(names):
            report.scenario(name, number, len(names))
            figures += await SCENARIOS[name](scale, report)
    return figures


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
