"""``feedsvc delivery``."""

import pytest

from feedsvc.config import Limits
from tests.serving import Serve, Service

from .conftest import Feedsvc

#: A publish delivers to one follower before it returns; the other one is left to workers.
LIMITS = Limits(inline_audience=1, push_chunk=1)


@pytest.fixture
async def service(serve: Serve) -> Service:
    """A service without workers, so that queued deliveries keep waiting."""
    service = await serve(limits=LIMITS, workers=0)
    await service.follow_all([("bob", "alice"), ("carol", "alice")])
    return service


async def test_a_delivery_is_a_table_of_sixty_columns(service: Service, feedsvc: Feedsvc) -> None:
    queued, done = await service.post("alice"), await service.post("lonely")
    ran = await feedsvc("delivery", queued, done)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        queued,
        "  state       queued      workers deliver it",
        "  followers   2           that the activity is for",
        "  delivered   0           put into warm feeds",
        "  cold        1           whose next read finds it",
        done,
        "  state       delivered",
    ]
    assert max(map(len, ran.out.splitlines())) <= 60


async def test_the_json_is_the_message_with_the_id(service: Service, feedsvc: Feedsvc) -> None:
    queued = await service.post("alice")
    ran = await feedsvc("delivery", "-", "--json", stdin=queued.encode())
    assert ran.json == [
        {
            "id": queued,
            "delivery": {
                "state": "DELIVERY_STATE_QUEUED",
                "audienceCount": "2",
                "deliveredCount": "0",
                "skippedColdCount": "1",
            },
        }
    ]


async def test_wait_returns_when_the_delivery_has_ended(
    service: Service, serve: Serve, feedsvc: Feedsvc
) -> None:
    queued = await service.post("alice")
    process = await feedsvc.start("delivery", queued, "--wait", "--json")
    await serve(limits=LIMITS)  # a server with workers
    out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"DELIVERY_STATE_DELIVERED" in out


async def test_an_activity_that_does_not_exist_is_named(service: Service, feedsvc: Feedsvc) -> None:
    missing = "1898765432109876543"
    ran = await feedsvc("delivery", missing)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"{missing}: ")
    assert ran.err.endswith("(ACTIVITY_NOT_FOUND)\n")
