"""Missing data sets: tests on real data skip and say what to do; in CI they fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.location import DATA_SETS, VARIABLE, DataMissing, directory_of

ROOT = Path(__file__).resolve().parents[2]


def sentences(directory: Path) -> set[str]:
    """Return what the tests say when both of their data sets are missing from a directory."""
    variable = "(FEEDSVC_TEST_DATA names another directory than ../shared/data for all data sets)"
    higgs_small = (
        "The data set higgs-small is missing: put activities.tsv.gz and follows.tsv.gz into "
        f"{directory}/higgs-small {variable}; docs/testing.md says how to make the data set from "
        "higgs-activity_time.txt.gz and higgs-social_network.edgelist.gz of SNAP, "
        "https://snap.stanford.edu/data/higgs-twitter.html."
    )
    gharchive = (
        "The data set gharchive is missing: put 2015-01-01-0.activities.jsonl.gz into "
        f"{directory}/gharchive {variable}; docs/testing.md says how to make the data set from "
        "https://data.gharchive.org/2015-01-01-0.json.gz of GH Archive, https://www.gharchive.org."
    )
    return {higgs_small, gharchive}


def run_data_tests(directory: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the tests on real data, with the data sets of a directory."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "data and not slow",
            "tests/data",
        ],
        cwd=ROOT,
        env=inherited | {VARIABLE: str(directory)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_tests_on_missing_data_skip_with_a_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    done = run_data_tests(tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(r"\d+ skipped(, \d+ deselected)? in .*", done.stdout.splitlines()[-1])
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", done.stdout, re.MULTILINE)
    assert set(reasons) == sentences(tmp_path)


def test_tests_on_missing_data_fail_in_ci(tmp_path: Path) -> None:
    done = run_data_tests(tmp_path, CI="true")
    assert done.returncode == 1, done.stdout
    assert re.fullmatch(r"\d+ errors?(, \d+ deselected)? in .*", done.stdout.splitlines()[-1])
    assert all(sentence in done.stdout for sentence in sentences(tmp_path))


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_set_without_one_of_its_files_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / name).mkdir()
    for file in DATA_SETS[name].files:
        with pytest.raises(DataMissing, match=file):
            directory_of(name)
        (tmp_path / name / file).touch()
    assert directory_of(name) == tmp_path / name
