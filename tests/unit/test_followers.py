"""The follower lists of lua/lib/followers.lua compared with a dictionary, on a real store."""

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedsvc.core import keys, scripts

TAG = "{0}"
LIBRARY = scripts.libraries()["followers"]
CALLS = {
    # As the scripts do: the edge and the index change in one step.
    "follow": """
        local follower, followee, position = ARGV[1], ARGV[2], ARGV[3]
        redis.call('HSET', key(EDGES, follower), followee, position)
        followers_add(followee, follower, position)""",
    "unfollow": """
        local follower, followee = ARGV[1], ARGV[2]
        redis.call('HDEL', key(EDGES, follower), followee)
        followers_remove(followee, follower)""",
    "after": "return (followers_after(ARGV[1], ARGV[2], tonumber(ARGV[3])))",
    "last": "return followers_last(ARGV[1])",
    "count": "return followees_count(ARGV[1])",
    "through": """
        local lists = {}
        for i, tag in ipairs(KEYS) do
          use(tag)
          lists[i] = followers_after(ARGV[1], '-inf', 100)
        end
        return lists""",
}
#: Greatest number of a follower or followee in an example.
LAST = 6
#: Examples share a store; each example empties the store first.
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Followers:
    """The library's functions, with chunks of a given size."""

    def __init__(self, client: "redis.Redis", chunk: int) -> None:
        self.client = client
        self.chunk = chunk
        names = keys.lua_names() | {"PUSH_CHUNK": str(chunk)}
        self.sources = {
            function: scripts.assembled(text, keys.LUA + LIBRARY, names)
            for function, text in CALLS.items()
        }

    def call(self, function: str, *arguments: Any, tag: str = TAG) -> Any:
        return self.client.eval(self.sources[function], 1, tag, *arguments)

    def walk(self, followee: str) -> list[str]:
        """Return all followers, read chunk by chunk as by a push."""
        names: list[str] = []
        position = "-inf"
        while chunk := self.call("after", followee, position, self.chunk):
            names += (name.decode() for name in chunk)
            score = self.client.zscore(keys.followers(TAG, followee), chunk[-1])
            if score is None:
                return names
            position = f"{score:.0f}"
        return names


@pytest.fixture
def client(store_url: str) -> Any:
    with redis.Redis.from_url(store_url, protocol=2) as client:
        yield client


@pytest.mark.every_store
@QUICK
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, LAST), st.integers(0, LAST)), max_size=40),
)
def test_followers_are_listed_in_the_order_in_which_they_came(
    client: "redis.Redis", chunk: int, steps: list[tuple[bool, int, int]]
) -> None:
    client.flushall()
    followers = Followers(client, chunk)
    expected: dict[str, dict[str, int]] = {}
    for position, (is_follow, follower_number, followee_number) in enumerate(steps, 1):
        follower, followee = f"f{follower_number}", f"a{followee_number}"
        positions = expected.setdefault(followee, {})
        if is_follow and follower not in positions:
            followers.call("follow", follower, followee, position)
            positions[follower] = position
        elif not is_follow and follower in positions:
            followers.call("unfollow", follower, followee)
            del positions[follower]
    for followee, positions in expected.items():
        assert followers.walk(followee) == list(positions)
        last = followers.call("last", followee)
        assert (int(last) if last else None) == max(positions.values(), default=None)
    for number in range(LAST + 1):
        followees = sum(f"f{number}" in positions for positions in expected.values())
        assert followers.call("count", f"f{number}") == followees


@pytest.mark.every_store
def test_buckets_are_split_and_stay_packed(client: "redis.Redis") -> None:
    followers = Followers(client, 500)
    names = [f"author:{number}" for number in range(700)]
    for position, name in enumerate(names, 1):
        followers.call("follow", "reader", name, position)
    tallies = client.hgetall(keys.tallies(TAG))
    buckets = int(tallies[b"buckets"])
    assert buckets == 700 // 50
    assert int(tallies[b"lists"]) == 700
    stored = [name for bucket in range(buckets) for name in client.hkeys(f"{TAG}s:{bucket}")]
    assert sorted(name.decode() for name in stored) == sorted(names)
    for bucket in range(buckets):
        assert client.object("encoding", f"{TAG}s:{bucket}") == b"listpack"
    assert all(followers.walk(name) == ["reader"] for name in names)
    for name in names:
        followers.call("unfollow", "reader", name)
    assert client.hget(keys.tallies(TAG), "lists") == b"0"
    assert client.keys(f"{TAG}s:*") == []


def test_followers_are_found_where_shards_have_other_numbers_of_buckets(
    client: "redis.Redis",
) -> None:
    """A script that goes through several shards guesses by the number of the shard before."""
    followers = Followers(client, 500)
    names = [f"author:{number}" for number in range(300)]
    followed = {"{0}": names, "{1}": names[::10], "{2}": names[:120]}
    for tag, followees in followed.items():
        for position, name in enumerate(followees, 1):
            followers.call("follow", f"reader{tag}", name, position, tag=tag)
    for shards in (("{0}", "{1}", "{2}", "{0}"), ("{1}", "{0}", "{2}", "{1}")):
        for name in names:
            assert client.eval(followers.sources["through"], len(shards), *shards, name) == [
                [f"reader{tag}".encode()] if name in followed[tag] else [] for tag in shards
            ]


@pytest.mark.every_store
def test_a_follower_without_a_number_is_indexed_by_name(client: "redis.Redis") -> None:
    """Sixteen million followers have a number; the shard indexes later ones by name."""
    followers = Followers(client, 500)
    followers.call("follow", "first", "author", 1)
    client.hset(keys.tallies(TAG), "numbers", str(2**24 - 1))
    followers.call("follow", "last", "author", 2)
    followers.call("follow", "first", "other", 3)
    assert followers.walk("author") == ["first", "last"]
    assert client.zcard(keys.followers(TAG, "author")) == 2
    assert followers.walk("other") == ["first"]
    followers.call("unfollow", "last", "author")
    followers.call("unfollow", "first", "author")
    followers.call("follow", "last", "author", 4)
    assert followers.walk("author") == ["last"]
