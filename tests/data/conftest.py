"""Where the data is, and servers on a real store, each a process of its own.

The data is not part of the project: it is looked for in `../shared/data` beside it, or where the
environment's FEEDSVC_DATA says.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.serving import Serving, Setup
from tests.stores import Stores

DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_folder(name: str) -> Path:
    """A data set's folder. Where there is none the test is skipped, but in CI it fails."""
    root = Path(os.environ.get("FEEDSVC_DATA") or DEFAULT_FOLDER)
    folder = root / name
    if folder.is_dir():
        return folder
    reason = f"there is no data set {name} in {root}; FEEDSVC_DATA can name another folder"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def higgs_small() -> Path:
    return data_folder("higgs-small")


@pytest.fixture(scope="session")
def github_hour() -> Path:
    return data_folder("gharchive") / "2015-01-01-0.activities.jsonl.gz"


@pytest.fixture
def serving(request: pytest.FixtureRequest, stores: Stores, tmp_path: Path) -> Iterator[Serving]:
    """Two servers on an empty store; the mark `on` says how they are set up."""
    setup: Setup = getattr(request, "param", Setup())
    with Serving(stores.empty(setup.kind).url, setup.limits, tmp_path) as serving:
        yield serving
