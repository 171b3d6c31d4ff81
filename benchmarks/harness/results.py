"""The record of a run: a JSON list with an object for each figure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Figure

Record = dict[str, Any]
"""A figure, as `Figure.as_dict` gives it, and the name of its scenario."""


def write(by_scenario: Mapping[str, Sequence[Figure]], path: Path) -> None:
    """Write the figures of each scenario."""
    records = [
        {"scenario": scenario} | figure.as_dict()
        for scenario, figures in by_scenario.items()
        for figure in figures
    ]
    path.write_text(json.dumps(records, indent=2) + "\n")


def read(path: Path) -> list[Record]:
    """Read the records of a run."""
    records: list[Record] = json.loads(path.read_text())
    return records
