"""The stores that tests run on. A test that asks for `store` or `store_url` gets an empty store.

Such a test runs on `valkey`, and on every kind of store if it is marked `every_store`. The option
`--store redis7,cluster` runs every such test on these kinds instead.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import Phase, settings

from tests.stores import KINDS, Store, Stores

pytest_plugins = ["tests.serving"]

# For `--hypothesis-profile unshrunk`: shrinking a state machine takes minutes.
settings.register_profile("unshrunk", phases=(Phase.explicit, Phase.reuse, Phase.generate))

#: Most bytes in the path of the folder for temporary files: the paths of sockets in the folders of
#: tests must be short. Tests do not use a folder with a longer path.
MAX_TEMPORARY_FOLDER = 20
#: Parts of the names of tests that take several seconds each, the longest first.
LONG_TESTS = ("under_every_fault", "test_model.py", "flips_back", "interleavings/")
#: Folders whose tests run on uvloop, as `feedsvc serve` does. The other asynchronous tests use the
#: event loop of the standard library.
UVLOOP_FOLDERS = ("pitfalls",)


def _parse_kinds(option: str) -> list[str]:
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
        # A shell's background jobs and some runners ignore SIGINT. Processes that tests start would
        # inherit that, and tests interrupt these processes.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if len(os.fsencode(tempfile.gettempdir())) > MAX_TEMPORARY_FOLDER:
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"  # noqa: S108
    config.addinivalue_line("markers", "every_store: runs on each kind of store, not only valkey")
    if option := config.getoption("--store"):
        _parse_kinds(option)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run three workers on two cores: a test waits a third of its time for servers and stores."""
    cores = yield
    return cores + cores // 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests to the workers, long tests first.

    A worker gets a row of tests, and idle workers steal from its end. A worker that began a long
    test last would end alone.
    """

    def position(item: pytest.Item) -> int:
        matches = (number for number, part in enumerate(LONG_TESTS) if part in item.nodeid)
        return next(matches, len(LONG_TESTS))

    for item in items:
        if _uses_uvloop(item):
            _time_out_by_thread(item)
    items.sort(key=position)
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    items[:] = [item for first in range(workers) for item in items[first::workers]]


def _uses_uvloop(item: pytest.Item) -> bool:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return folder in UVLOOP_FOLDERS


def _time_out_by_thread(item: pytest.Item) -> None:
    """Let a thread end the process of a test that hangs: uvloop does not run a signal's handler."""
    mark = item.get_closest_marker("timeout") or pytest.mark.timeout().mark
    by_thread = pytest.mark.timeout(*mark.args, **{**mark.kwargs, "method": "thread"})
    item.add_marker(by_thread, append=False)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if _uses_uvloop(item):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_kind" not in metafunc.fixturenames:
        return
    if option := metafunc.config.getoption("--store"):
        kinds = _parse_kinds(option)
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
    raise AssertionError("pytest_generate_tests gives the value")


@pytest.fixture
def store(stores: Stores, store_kind: str) -> Store:
    """Return a real, empty store of `store_kind`."""
    return stores.empty_store(store_kind)


@pytest.fixture
def store_url(store: Store) -> str:
    return store.url
