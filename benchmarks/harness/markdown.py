"""The tables of figures in docs/performance.md, between marks that name them."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.harness.figures import short
from benchmarks.harness.results import Record

#: Name of the table of all figures whose target is missed. Other tables are named by a scenario.
MISSED = "missed"
HEAD = """\
| figure | ours | against | theirs | ratio | target |
|---|---:|---|---:|---:|---|
"""
#: A region, whose table is replaced.
REGION = re.compile(
    r"(?P<begin><!-- begin: generated table (?P<name>\S+) -->\n).*?(?P<end><!-- end -->\n)",
    re.DOTALL,
)


def with_tables(text: str, records: Sequence[Record]) -> str:
    """Return the text with its tables replaced.

    Raise ValueError if a region names no table, or if a scenario has no region.
    """
    made = tables(records)
    names = {match["name"] for match in REGION.finditer(text)}
    if names != made.keys():
        raise ValueError(
            f"no figures for the regions {sorted(names - made.keys())}, "
            f"no regions for the figures {sorted(made.keys() - names)}"
        )
    return REGION.sub(lambda match: match["begin"] + made[match["name"]] + match["end"], text)


def tables(records: Sequence[Record]) -> Mapping[str, str]:
    """Return the table of each scenario, and that of the missed targets, by name."""
    rows: dict[str, list[Record]] = {MISSED: []}
    for record in records:
        rows.setdefault(record["scenario"], []).append(record)
        if record["met"] is False:
            rows[MISSED].append(record)
    return {name: HEAD + "".join(map(_row, scenario)) for name, scenario in rows.items()}


def _row(record: Record) -> str:
    cells = (
        record["name"],
        f"{short(record['ours'])} {record['unit']}",
        record["against"],
        _number(record["theirs"]),
        _number(record["ratio"]),
        _target(record),
    )
    return f"| {' | '.join(cells)} |\n"


def _number(value: float | None) -> str:
    return "" if value is None else short(value)


def _target(record: Record) -> str:
    mark = {None: "", True: "✓", False: "**missed**"}[record["met"]]
    return f"{record['target']} {mark}".strip()
