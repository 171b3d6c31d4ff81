"""The places of the real data sets, which are not part of the project, and their public sources."""

import os
from dataclasses import dataclass
from pathlib import Path

#: Environment variable that names the directory of the data sets.
VARIABLE = "FEEDSVC_TEST_DATA"
#: Directory of the data sets where the environment names none: `../shared/data` beside the project.
DEFAULT_DIRECTORY = Path(__file__).resolve().parents[3] / "shared" / "data"

HIGGS_PAGE = "https://snap.stanford.edu/data/higgs-twitter.html"
GHARCHIVE_FILE = "https://data.gharchive.org/2015-01-01-0.json.gz"


@dataclass(frozen=True, slots=True)
class Published:
    """The files of a data set, and the public files that they are made from."""

    files: tuple[str, ...]
    source: str


DATA_SETS = {
    "higgs-small": Published(
        ("activities.tsv.gz", "follows.tsv.gz"),
        f"higgs-activity_time.txt.gz and higgs-social_network.edgelist.gz of SNAP, {HIGGS_PAGE}",
    ),
    "higgs": Published(
        (
            "higgs-activity_time.txt.gz",
            "higgs-social_network.head355074.edgelist.gz",
            "derived-interaction-follow.tsv.gz",
        ),
        f"higgs-activity_time.txt.gz and higgs-social_network.edgelist.gz of SNAP, {HIGGS_PAGE}",
    ),
    "gharchive": Published(
        ("2015-01-01-0.activities.jsonl.gz",),
        f"{GHARCHIVE_FILE} of GH Archive, https://www.gharchive.org",
    ),
}


class DataMissing(Exception):
    """A data set is not there. The message says where it belongs and where it comes from."""


def directory_of(name: str) -> Path:
    """Return the directory of a data set. Raise DataMissing if one of its files is not there."""
    directory = Path(os.environ.get(VARIABLE) or DEFAULT_DIRECTORY) / name
    data_set = DATA_SETS[name]
    missing = [file for file in data_set.files if not (directory / file).is_file()]
    if missing:
        raise DataMissing(
            f"The data set {name} is missing: put {' and '.join(missing)} into {directory} "
            f"({VARIABLE} names another directory than ../shared/data for all data sets); "
            f"docs/testing.md says how to make the data set from {data_set.source}."
        )
    return directory
