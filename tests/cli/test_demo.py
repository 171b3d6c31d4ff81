"""``feedsvc demo`` and its sample."""

import os
import re
import signal
import time
from importlib.resources import files
from pathlib import Path

import pytest
from rich.cells import cell_len

from feedsvc.cli.demo import LIVE, LIVE_PAUSE, PAGE_SIZE, PART_PAUSE
from tests.serving import Service

from .conftest import Feedsvc
from .terminal import lines_on_terminal, on_terminal


async def test_the_demo_runs_to_its_end_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    start = time.monotonic()
    ran = await Feedsvc("127.0.0.1:1")("demo", "--fast")
    assert (ran.code, ran.err) == (0, "")
    assert time.monotonic() - start < 15
    assert not os.listdir(tmp_path)  # noqa: PTH208 (pathlib's is called blocking)
    live, page = ran.out.split("SubscribeFeed\n")[1].split("GetFeed\n")
    assert "priya published kettle 1.0 in kettle “It whistles. Thank you all.”" in live
    assert "bo took back “To production, on a Friday. What could go wrong?”" in live
    assert "ada now follows repo:moth" in live
    assert "jun starred paperboat   (not for ada)" in live
    assert "Friday" not in page
    assert len(re.findall(r"(?m)^ *\d+ (s|min|h|d) ago  ", page)) == PAGE_SIZE
    assert "feedsvc serve" in page


@pytest.mark.parametrize(
    ("shown", "presses"),
    [
        ("An activity feed", 2),
        ("server", 2),
        ("follows", 1),
        ("SubscribeFeed", 2),
        ("GetFeed", 1),
    ],
)
async def test_ctrl_c_in_the_demo_leaves_nothing_and_prints_nothing(
    tmp_path: Path, shown: str, presses: int
) -> None:
    environment = {"TMPDIR": str(tmp_path), "NO_COLOR": "1"}
    async with on_terminal("demo", "--fast", environment=environment) as terminal:
        await terminal.shows(shown)
        for _ in range(presses):
            terminal.press(signal.SIGINT)
        # The demo may have come to its end before the signal.
        assert await terminal.code() in {0, 130, -signal.SIGINT}
        assert "Traceback" not in terminal.printed
        assert "Aborted" not in terminal.printed
    assert not os.listdir(tmp_path)  # noqa: PTH208 (pathlib's is called blocking)


async def test_the_demo_fits_into_60_columns() -> None:
    lines = await lines_on_terminal("demo", "--fast", environment={"NO_COLOR": "1"})
    assert [line for line in lines if cell_len(line) > 60] == []
    assert lines[:2] == [
        "An activity feed: the activities of all that you follow,",
        "newest first, and live.",
    ]
    first = lines.index("Your turn") + 1
    commands = [line for line in lines[first:] if line.startswith("  feedsvc")]
    assert commands == [
        "  feedsvc serve          a server that stays; data in ./data",
        "  feedsvc follow me repo:kettle",
        "  feedsvc tail me        in another terminal",
        "  feedsvc publish you push repo:kettle --to repo:kettle",
        "  feedsvc import --help  your own follows and activities",
    ]


def test_the_pauses_of_the_demo_add_up_to_10_to_17_seconds() -> None:
    pauses = LIVE_PAUSE * (LIVE + 2) + PART_PAUSE * 3
    assert 10 < pauses < 17


async def test_the_sample_of_the_demo_can_be_imported(service: Service) -> None:
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    ran = await feedsvc("import", files("feedsvc.cli") / "demo.jsonl", "--json")
    (report,) = ran.json
    assert (report["follows"], report["activities"]) == (57, 40)
    assert (report["refused"], report["malformed"]) == ({}, 0)
