"""The server's fast event loop, for tens of thousands of interleavings; clear assertions."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

pytest.register_assert_rewrite("tests.interleavings")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
