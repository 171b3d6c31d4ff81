"""The follower lists of lua/lib/followers.lua against a plain dictionary, on a real store."""

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedsvc.core import keys, scripts

TAG = "{0}"
LIBRARY = scripts.libraries()["followers"]
CALLS = {
    # As the scripts do it: the edge and the index in one step.
    "follow": """
        redis.call('HSET', key(EDGES, ARGV[1]), ARGV[2], ARGV[3])
        followers_add(ARGV[2], ARGV[1], ARGV[3])""",
    "unfollow": """
        redis.call('HDEL', key(EDGES, ARGV[1]), ARGV[2])
        followers_remove(ARGV[2], ARGV[1])""",
    "after": "return (followers_after(ARGV[1], ARGV[2], tonumber(ARGV[3])))",
    "last": "return followers_last(ARGV[1])",
    "count": "return followees_count(ARGV[1])",
    "through": """
        local lists = {}
        for i = 1, #KEYS do
          use(KEYS[i])
          lists[i] = followers_after(ARGV[1], '-inf', 100)
        end
        return lists""",
}
SOME = 6
#: Examples share one store: each begins with an empty one.
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Followers:
    """The library with chunks of a given size, callable."""

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
        """All followers, chunk by chunk, as a push reads them."""
        found: list[str] = []
        position = "-inf"
        while chunk := self.call("after", followee, position, self.chunk):
            found += (one.decode() for one in chunk)
            score = self.client.zscore(keys.followers(TAG, followee), chunk[-1])
            if score is None:
                return found
            position = f"{score:.0f}"
        return found


@pytest.fixture
def client(store_url: str) -> Any:
    with redis.Redis.from_url(store_url, protocol=2) as client:
        yield client


@pytest.mark.every_store
@QUICK
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, SOME), st.integers(0, SOME)), max_size=40),
)
def test_followers_are_listed_in_the_order_in_which_they_came(
    client: "redis.Redis", chunk: int, steps: list[tuple[bool, int, int]]
) -> None:
    client.flushall()
    followers = Followers(client, chunk)
    expected: dict[str, dict[str, int]] = {}
    for position, (add, one, other) in enumerate(steps, 1):
        follower, followee = f"f{one}", f"a{other}"
        there = expected.setdefault(followee, {})
        if add and follower not in there:
            followers.call("follow", follower, followee, position)
            there[follower] = position
        elif not add and follower in there:
            followers.call("unfollow", follower, followee)
            del there[follower]
    for followee, there in expected.items():
        assert followers.walk(followee) == list(there)
        last = followers.call("last", followee)
        assert (int(last) if last else None) == max(there.values(), default=None)
    for number in range(SOME + 1):
        follows = sum(f"f{number}" in there for there in expected.values())
        assert followers.call("count", f"f{number}") == follows


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
    held = [client.hkeys(f"{TAG}s:{bucket}") for bucket in range(buckets)]
    assert sorted(one.decode() for some in held for one in some) == sorted(names)
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
    """A script that goes through several shards guesses by the count of the one before."""
    followers = Followers(client, 500)
    names = [f"author:{number}" for number in range(300)]
    held = {"{0}": names, "{1}": names[::10], "{2}": names[:120]}
    for tag, some in held.items():
        for position, name in enumerate(some, 1):
            followers.call("follow", f"reader{tag}", name, position, tag=tag)
    for shards in (("{0}", "{1}", "{2}", "{0}"), ("{1}", "{0}", "{2}", "{1}")):
        for name in names:
            assert client.eval(followers.sources["through"], len(shards), *shards, name) == [
                [f"reader{tag}".encode()] if name in held[tag] else [] for tag in shards
            ]


@pytest.mark.every_store
def test_followers_without_a_number_are_many(client: "redis.Redis") -> None:
    """Sixteen million have one; who comes later is indexed by name."""
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
