"""The server's fast event loop, for tens of thousands of interleavings; clear assertions."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

pytest.register_assert_rewrite("tests.interleavings")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a timeout end the process of a test: uvloop does not run the handler of a signal."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args if marker else (float(item.config.getini("timeout")),)
    item.add_marker(pytest.mark.timeout(*seconds, method="thread"), append=False)
