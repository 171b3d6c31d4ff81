"""The server that all bad requests of a module are sent to."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.serving import Service
from tests.stores import Stores


@pytest.fixture(scope="module")
def url(stores: Stores) -> str:
    return stores.empty_store("valkey").url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(url: str) -> AsyncIterator[Service]:
    """Start a server for the whole module: all its tests together leave it unharmed."""
    service = await Service.start(url, checkpoint_seconds=300)
    await service.follow("bob", "alice")
    await service.publish("alice", external_id="e", to=["repo:x"])
    await service.post("alice")
    await service.warm("bob")
    yield service
    await service.stop()
