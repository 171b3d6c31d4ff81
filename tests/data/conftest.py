"""The data sets, and servers on a real store, each in a process of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.location import DataMissing, directory_of
from tests.data.serving import Serving, Setup
from tests.stores import Stores


def require(name: str) -> Path:
    """Return the directory of a data set. Skip the test if it is missing; fail the test in CI."""
    try:
        return directory_of(name)
    except DataMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def higgs_small() -> Path:
    return require("higgs-small")


@pytest.fixture(scope="session")
def github_hour() -> Path:
    return require("gharchive") / "2015-01-01-0.activities.jsonl.gz"


@pytest.fixture
def serving(request: pytest.FixtureRequest, stores: Stores, tmp_path: Path) -> Iterator[Serving]:
    """Run two servers on an empty store, with the setup of the mark `on`."""
    setup: Setup = getattr(request, "param", Setup())
    with Serving(stores.empty_store(setup.kind).url, setup.limits, tmp_path) as serving:
        yield serving
