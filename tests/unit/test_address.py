"""The store's address: what is taken, and that passwords stay out of sight."""

import pytest

from feedsvc.core import address

SECRET = "hunter2"  # noqa: S105 (it opens nothing)


def test_sentinels_are_taken_apart() -> None:
    redis = address.client(
        f"rediss+sentinel://user:{SECRET}%21@one:1,two,[::1]:3/feeds/4"
        f"?sentinel_username=own&sentinel_password={SECRET}"
    )
    pool = redis.connection_pool
    assert pool.service_name == "feeds"
    wanted = {"username": "user", "password": f"{SECRET}!", "db": 4}
    assert {name: pool.connection_kwargs[name] for name in wanted} == wanted
    assert pool.connection_class.__name__ == "SentinelManagedSSLConnection"
    watchers = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in watchers] == [
        *(("one", 1), ("two", address.SENTINEL_PORT), ("::1", 3))
    ]
    assert {one["username"] for one in watchers} == {"own"}
    for shown in (redis, pool, pool.sentinel_manager, pool.make_connection()):
        assert SECRET not in repr(shown)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://host",
        "redis+sentinel://host:26379/",
        f"redis+sentinel://:{SECRET}@/feeds",
        f"redis+sentinel://:{SECRET}@one,,two/feeds",
        f"redis+sentinel://:{SECRET}@one:x/feeds",
        f"redis+sentinel://:{SECRET}@one/feeds/x",
        f"redis+sentinel://:{SECRET}@one/feeds?quorum=2",
        f"sentinel://:{SECRET}@one/feeds",
        f"http://:{SECRET}@one",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    for use in (address.check, address.client):
        with pytest.raises(ValueError, match="not a store's address") as caught:
            use(url)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
