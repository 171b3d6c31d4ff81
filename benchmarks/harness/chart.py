"""A chart of the figures and their targets, readable on a light page and on a dark one."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.harness.figures import Figure, Target, short

#: Grey halfway between black and white, which has enough contrast with both.
INK = "#7b7f86"
MET, MISSED = "#1f9d8a", "#e0503c"
#: Inches.
WIDTH, ROW, FRAME = 11.0, 0.5, 1.0
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Names inside the file depend on this salt. Without it they would differ from run to run.
    "svg.hashsalt": "feedsvc",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Write an SVG, the same for the same figures. Write nothing if no figure has a target."""
    judged = [(figure, figure.bound) for figure in figures if figure.bound]
    if not judged:
        return
    with mpl.rc_context(STYLE):
        _canvas(judged).savefig(
            path, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )


def _canvas(figures: Sequence[tuple[Figure, Target]]) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, FRAME + ROW * len(figures)), layout="constrained")
    axes = canvas.subplots()
    labels = []
    for row, (figure, bound) in enumerate(figures):
        # A share of 1 or more, on the right, meets the target.
        shares = [bound.share(value) for value in figure.judged]
        middle = median(shares)
        color = MET if figure.met else MISSED
        axes.barh(row, middle - 1, left=1, height=0.5, color=color, alpha=0.45)
        axes.plot([min(shares), max(shares)], [row, row], color=color, linewidth=2)
        axes.plot(middle, row, "o", color=color, markersize=6)
        unit = f" {figure.unit}" if figure.absolute else ""
        against = f"\nagainst {figure.against}" if not figure.absolute else ""
        labels.append(figure.name + against)
        axes.annotate(
            f"{short(median(figure.judged))}{unit}  (target {figure.target})",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            verticalalignment="center",
            color=color,
        )
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yticks(range(len(figures)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(
        "times better than the target: dot median, line least to greatest of the rounds"
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return canvas
