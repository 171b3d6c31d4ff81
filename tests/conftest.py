"""Which stores a test runs on. A test that asks for `store` or `store_url` gets an empty one.

It runs on `valkey`, and on every kind if it is marked `every_store`; `--store redis7,cluster` puts
all of them on these kinds instead.
"""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from tests.stores import KINDS, Store, Stores

pytest_plugins = ["tests.serving"]

# For `--hypothesis-profile unshrunk`: shrinking a state machine takes minutes.
settings.register_profile("unshrunk", phases=(Phase.explicit, Phase.reuse, Phase.generate))


def _kinds(option: str) -> list[str]:
    kinds = option.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise pytest.UsageError(f"--store: {', '.join(sorted(unknown))}: not one of {KINDS}")
    return kinds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        metavar="KIND,...",
        help=f"run each test that needs a store on these kinds, of {', '.join(KINDS)} "
        "(default: valkey, and all for tests marked every_store)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As in the background of a shell, or under some runners: what tests start would inherit it,
        # and tests interrupt what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "every_store: runs on each kind of store, not only valkey")
    if option := config.getoption("--store"):
        _kinds(option)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_kind" not in metafunc.fixturenames:
        return
    if option := metafunc.config.getoption("--store"):
        kinds = _kinds(option)
    elif metafunc.definition.get_closest_marker("every_store"):
        kinds = list(KINDS)
    else:
        kinds = ["valkey"]
    metafunc.parametrize("store_kind", kinds)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with Stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
def store_kind() -> str:
    raise AssertionError("given by pytest_generate_tests")


@pytest.fixture
def store(stores: Stores, store_kind: str) -> Store:
    """Run the test on a real, empty store of `store_kind`."""
    return stores.empty(store_kind)


@pytest.fixture
def store_url(store: Store) -> str:
    return store.url
