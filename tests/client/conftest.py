"""Both clients: each test that asks for `connect` runs with one and with the other."""

from collections.abc import AsyncIterator, Callable

import pytest
from activityfeed import BlockingFeedClient, FeedClient

Client = FeedClient | BlockingFeedClient
Connect = Callable[[int], Client]


async def close(client: Client) -> None:
    if isinstance(client, FeedClient):
        await client.close()
    else:
        client.close()


@pytest.fixture(params=[FeedClient, BlockingFeedClient], ids=["asyncio", "blocking"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Make clients of the server on a port; the fixture closes them at the end."""
    kind: type[Client] = request.param
    clients: list[Client] = []

    def open_client(port: int) -> Client:
        clients.append(kind.connect(f"127.0.0.1:{port}"))
        return clients[-1]

    yield open_client
    for client in clients:
        await close(client)
