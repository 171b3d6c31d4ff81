"""The store's address: its parts, and passwords that no message or repr shows."""

import pytest

from feedsvc.core import address

SECRET = "hunter2"  # noqa: S105 (a made-up password)


def test_address_of_sentinels_is_split_into_its_parts() -> None:
    redis = address.client(
        f"rediss+sentinel://user:{SECRET}%21@one:1,two,[::1]:3/feeds/4"
        f"?sentinel_username=own&sentinel_password={SECRET}"
    )
    pool = redis.connection_pool
    assert pool.service_name == "feeds"
    expected = {"username": "user", "password": f"{SECRET}!", "db": 4}
    assert {name: pool.connection_kwargs[name] for name in expected} == expected
    assert pool.connection_class.__name__ == "SentinelManagedSSLConnection"
    sentinels = [
        client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels
    ]
    assert [(sentinel["host"], sentinel["port"]) for sentinel in sentinels] == [
        *(("one", 1), ("two", address.SENTINEL_PORT), ("::1", 3))
    ]
    assert {sentinel["username"] for sentinel in sentinels} == {"own"}
    for client in (redis, pool, pool.sentinel_manager, pool.make_connection()):
        assert SECRET not in repr(client)


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
def test_invalid_address_is_refused_without_showing_its_password(url: str) -> None:
    for parse in (address.check, address.client):
        with pytest.raises(ValueError, match="not a store's address") as caught:
            parse(url)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:s3cret@store:7000/2", "store:7000/2"),
        ("rediss://store", "store:6379"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("unix://user:s3cret@/run/store.sock?db=1", "/run/store.sock/1"),
        (
            "redis+sentinel://user:s3cret@s1,s2:7/feeds/3?sentinel_password=s3cret",
            "feeds/3 of the Sentinels s1:26379,s2:7",
        ),
    ],
)
async def test_the_log_names_the_store_without_user_and_password(url: str, shown: str) -> None:
    client = address.client(url)
    assert address.of(client) == shown
    await address.close(client)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host:6379/0"),
        (f"rediss://user:{SECRET}@host:6380/3", "rediss://host:6380/3"),
        (f"redis://host/2?password={SECRET}", "redis://host:6379/2"),
        (f"redis://:{SECRET}@[::1]/0", "redis://[::1]:6379/0"),
        ("redis://", "redis://localhost:6379/0"),
        (f"unix://user:{SECRET}@/run/store.sock?db=1", "unix:///run/store.sock?db=1"),
        ("unix:///run/store.sock", "unix:///run/store.sock"),
        (
            f"rediss+sentinel://user:{SECRET}@one:1,two,[::1]:3/feeds/4?sentinel_password={SECRET}",
            "rediss+sentinel://one:1,two:26379,[::1]:3/feeds/4",
        ),
    ],
)
def test_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert address.without_credentials(url) == shown
