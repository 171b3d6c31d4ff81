import pytest

from tests.serving import Service


@pytest.mark.every_store
async def test_first(service: Service) -> None:
    one = await service.post("alice")
    await service.follow("bob", "alice")
    assert await service.feed("bob") == [one]
