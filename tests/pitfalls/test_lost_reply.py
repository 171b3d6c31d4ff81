"""A reply of the store is lost: the connection runs the script again, and answers the same."""

from typing import Any

import pytest

from tests.serving import Service


@pytest.fixture
def _twice(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every script runs twice, and only the second answer arrives."""
    store = service.server.engine.store
    script = store.script

    async def twice(*arguments: Any, **rest: Any) -> Any:
        await script(*arguments, **rest)
        return await script(*arguments, **rest)

    monkeypatch.setattr(store, "script", twice)


@pytest.mark.every_store
@pytest.mark.usefixtures("_twice")
@pytest.mark.parametrize("request_id", ["", "r"])
async def test_publish_is_the_first(service: Service, request_id: str) -> None:
    published = await service.publish("alice", request_id=request_id, external_id="e")
    assert not published.already_published
    again = await service.publish("alice", request_id=request_id, external_id="e")
    assert again.already_published
    assert again.activity.id == published.activity.id


@pytest.mark.every_store
@pytest.mark.usefixtures("_twice")
@pytest.mark.parametrize("request_id", ["", "r"])
async def test_edges_are_what_they_were(service: Service, request_id: str) -> None:
    assert not (await service.follow("bob", "alice", request_id)).already_following
    assert (await service.unfollow("bob", "alice", request_id)).was_following
    assert not (await service.unfollow("bob", "alice", f"{request_id}2")).was_following


@pytest.mark.usefixtures("_twice")
async def test_deletion_succeeds(service: Service) -> None:
    posted = await service.post("alice")
    await service.delete(posted, "alice")
