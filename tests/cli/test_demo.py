import os
import re
import time
from importlib.resources import files
from pathlib import Path

import pytest

from feedsvc.cli.demo import BEAT, LIVE, PAGE, PART
from tests.serving import Service

from .conftest import Feedsvc


async def test_it_runs_to_its_end_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    begun = time.monotonic()
    ran = await Feedsvc("127.0.0.1:1")("demo", "--fast")
    assert (ran.code, ran.err) == (0, "")
    assert time.monotonic() - begun < 15
    assert not os.listdir(tmp_path)  # noqa: PTH208 (pathlib's is called blocking)
    live, page = ran.out.split("SubscribeFeed\n")[1].split("GetFeed\n")
    assert "priya published kettle 1.0 in kettle “It whistles. Thank you all.”" in live
    assert "bo took back “To production, on a Friday. What could go wrong?”" in live
    assert "ada now follows repo:moth" in live
    assert "jun starred paperboat   (not for ada)" in live
    assert "Friday" not in page
    assert len(re.findall(r"(?m)^ *\d+ (s|min|h|d) ago  ", page)) == PAGE
    assert "feedsvc serve" in page


def test_it_lasts_long_enough_to_be_seen_and_no_longer() -> None:
    pauses = BEAT * (LIVE + 2) + PART * 3
    assert 10 < pauses < 17


async def test_its_sample_can_be_imported(service: Service) -> None:
    feedsvc = Feedsvc(f"127.0.0.1:{service.server.port}")
    ran = await feedsvc("import", files("feedsvc.cli") / "demo.jsonl", "--json")
    (report,) = ran.json
    assert (report["follows"], report["activities"]) == (57, 40)
    assert (report["refused"], report["malformed"]) == ({}, 0)
