"""Engines on the test's store; each stands for a process that works on it."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from feedsvc.config import Limits
from feedsvc.core.engine import Engine
from tests import serving


class OpenEngine(Protocol):
    def __call__(self, limits: Limits) -> Awaitable[Engine]: ...


@pytest.fixture
async def open_engine(store_url: str) -> AsyncIterator[OpenEngine]:
    """Open engines on the test's store; close them at the end of the test."""
    async with AsyncExitStack() as stack:

        async def enter(limits: Limits) -> Engine:
            return await stack.enter_async_context(serving.open_engine(store_url, limits))

        yield enter
