"""The definition of a feed, read from the bare store; shares no code with the product."""

from typing import Any

from redis import Redis

#: Reads all keys: of each its name and its content. The first entry is enough of a live log.
_READ_ALL = """\
local reads = {
  string = {'GET'}, list = {'LRANGE', 0, -1}, hash = {'HGETALL'}, set = {'SMEMBERS'},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, stream = {'XRANGE', '-', '+', 'COUNT', 1},
}
local read = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local command = reads[redis.call('TYPE', key).ok]
  read[#read + 1] = key
  read[#read + 1] = redis.call(command[1], key, unpack(command, 2))
end
return read
"""


class Truth:
    """All that a store of one shard held when `read` was called."""

    def __init__(self, redis: "Redis", tag: str) -> None:
        self._read_all = redis.register_script(_READ_ALL)
        self._tag = tag
        self._contents: dict[str, Any] = {}

    def read(self) -> None:
        """Read the whole store, in one step."""
        answer = self._read_all()
        self._contents = {
            key.decode(): content for key, content in zip(answer[::2], answer[1::2], strict=True)
        }

    def _content(self, name: str) -> Any:
        return self._contents.get(f"{self._tag}{name}", [])

    def _pairs(self, name: str) -> dict[bytes, bytes]:
        """Return the fields of a hash or the members of a sorted set, with their values."""
        content = self._content(name)
        return dict(zip(content[::2], content[1::2], strict=True))

    def log_start(self, user: str) -> str:
        """Return the position of the first entry of a user's live log."""
        position: bytes = self._content(f"l:{user}")[0][0]
        return position.decode()

    def feed(self, user: str) -> list[int]:
        """Return the feed by its definition: the live ids of the outboxes of all sources."""
        members = self._pairs(f"e:{user}")
        sources = {user, *(name.decode() for name in members if name >= b" ")}
        held_ids = {
            int(activity_id)
            for entity in sources
            for activity_id in self._content(f"o:{entity}")[1:]
        }
        return sorted(
            (activity_id for activity_id in held_ids if self._content(f"a:{activity_id}")),
            reverse=True,
        )

    def check_edges(self, users: set[str]) -> None:
        """Check that both ends of each edge agree.

        Check also that the marks of each followee name the shard, and that lists of few followers
        are in order.
        """
        edges: dict[tuple[str, str], int] = {}
        few_edges = self._edges_of_few_followers()
        edges_of_followers = list(few_edges)
        for user in users:
            fields = self._pairs(f"e:{user}")
            many_followers = self._pairs(f"w:{user}")
            pulled = set(self._content(f"p:{user}"))
            following = {name: int(position) for name, position in fields.items() if name >= b" "}
            edges |= {(user, name.decode()): position for name, position in following.items()}
            followers = {(name.decode(), user) for name in many_followers}
            assert not followers & set(edges_of_followers), "both few and many followers"
            edges_of_followers += followers
            assert pulled <= set(following)
            assert fields.get(b"\2") == b"\x80" or not any(
                followee == user for _, followee in edges_of_followers
            )
            for name, position in many_followers.items():
                assert edges.get((name.decode(), user), float(position)) == float(position)
        assert sorted(edges) == sorted(edges_of_followers)
        for user in users:
            positions = [edges[name, followee] for name, followee in few_edges if followee == user]
            assert positions == sorted(positions)

    def _edges_of_few_followers(self) -> list[tuple[str, str]]:
        """Return the edges (follower, followee) of the lists of few followers, in their order."""
        counters = self._pairs("t")
        buckets = range(int(counters.get(b"buckets", 1)))
        lists = [entry for bucket in buckets for entry in self._pairs(f"s:{bucket}").items()]
        assert len(lists) == int(counters.get(b"lists", 0))
        edges = []
        for followee, numbers in lists:
            for start in range(0, len(numbers), 3):
                number = int.from_bytes(numbers[start : start + 3])
                name = self._pairs(f"i:{number // 100}")[b"%d" % (number % 100)]
                edges.append((name.decode(), followee.decode()))
        return edges
