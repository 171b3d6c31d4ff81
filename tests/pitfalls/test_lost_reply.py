"""A reply of the store is lost: the connection runs the script again.

The second run must give the same answer as the first.
"""

from typing import Any

import pytest

from tests.serving import Service


@pytest.fixture
def _script_runs_twice(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every script twice; only the second answer arrives."""
    store = service.server.engine.store
    run_script = store.script

    async def run_twice(*arguments: Any, **options: Any) -> Any:
        await run_script(*arguments, **options)
        return await run_script(*arguments, **options)

    monkeypatch.setattr(store, "script", run_twice)


@pytest.mark.every_store
@pytest.mark.usefixtures("_script_runs_twice")
@pytest.mark.parametrize("request_id", ["", "r"])
async def test_publish_whose_reply_was_lost_is_not_a_repetition(
    service: Service, request_id: str
) -> None:
    """Pitfall: a lost reply makes a client's first publish look as if it were a retry."""
    published = await service.publish("alice", request_id=request_id, external_id="e")
    assert not published.already_published
    again = await service.publish("alice", request_id=request_id, external_id="e")
    assert again.already_published
    assert again.activity.id == published.activity.id


@pytest.mark.every_store
@pytest.mark.usefixtures("_script_runs_twice")
@pytest.mark.parametrize("request_id", ["", "r"])
async def test_follow_whose_reply_was_lost_reports_the_edge_as_it_was_before(
    service: Service, request_id: str
) -> None:
    """Pitfall: a lost reply makes a first follow look as if the edge had existed already."""
    assert not (await service.follow("bob", "alice", request_id)).already_following
    assert (await service.unfollow("bob", "alice", request_id)).was_following
    assert not (await service.unfollow("bob", "alice", f"{request_id}2")).was_following


@pytest.mark.usefixtures("_script_runs_twice")
async def test_delete_whose_reply_was_lost_succeeds(service: Service) -> None:
    """Pitfall: a lost reply makes a delete fail because the activity is gone already."""
    activity_id = await service.post("alice")
    await service.delete(activity_id, "alice")
