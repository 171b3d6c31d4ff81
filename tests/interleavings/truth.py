"""The definition of a feed, read from the bare store; shares no code with the product."""

from redis.asyncio import Redis


class Truth:
    """Reads the keys of a store of one shard directly."""

    def __init__(self, redis: "Redis", tag: str) -> None:
        self._redis = redis
        self._tag = tag

    async def feed(self, user: str) -> list[int]:
        """Return the feed by its definition: the live ids of the outboxes of all sources."""
        members = await self._redis.hkeys(f"{self._tag}e:{user}")
        pipeline = self._redis.pipeline(transaction=False)
        for entity in {user, *(name.decode() for name in members if name >= b" ")}:
            pipeline.lrange(f"{self._tag}o:{entity}", 1, -1)
        held_ids = {
            int(activity_id) for outbox in await pipeline.execute() for activity_id in outbox
        }
        if not held_ids:
            return []
        bodies = await self._redis.mget([f"{self._tag}a:{activity_id}" for activity_id in held_ids])
        alive = [activity_id for activity_id, body in zip(held_ids, bodies, strict=True) if body]
        return sorted(alive, reverse=True)

    async def check_edges(self, users: set[str]) -> None:
        """Check that both ends of each edge agree.

        Check also that the marks of each followee name the shard, and that lists of few followers
        are in order.
        """
        edges: dict[tuple[str, str], int] = {}
        few_edges = await self._edges_of_few_followers()
        edges_of_followers = list(few_edges)
        pipeline = self._redis.pipeline(transaction=False)
        for user in users:
            pipeline.hgetall(f"{self._tag}e:{user}")
            pipeline.zrange(f"{self._tag}w:{user}", 0, -1, withscores=True)
            pipeline.smembers(f"{self._tag}p:{user}")
        answers = await pipeline.execute()
        for index, user in enumerate(users):
            fields, many_followers, pulled = answers[3 * index : 3 * index + 3]
            following = {name: int(position) for name, position in fields.items() if name >= b" "}
            edges |= {(user, name.decode()): position for name, position in following.items()}
            followers = {(name.decode(), user) for name, _ in many_followers}
            assert not followers & set(edges_of_followers), "both few and many followers"
            edges_of_followers += followers
            assert pulled <= set(following)
            assert fields.get(b"\2") == b"\x80" or not any(
                followee == user for _, followee in edges_of_followers
            )
            for name, position in many_followers:
                assert edges.get((name.decode(), user), position) == position
        assert sorted(edges) == sorted(edges_of_followers)
        for user in users:
            positions = [edges[name, followee] for name, followee in few_edges if followee == user]
            assert positions == sorted(positions)

    async def _edges_of_few_followers(self) -> list[tuple[str, str]]:
        """Return the edges (follower, followee) of the lists of few followers, in their order."""
        counters = await self._redis.hgetall(f"{self._tag}t")
        buckets = self._redis.pipeline(transaction=False)
        for bucket in range(int(counters.get(b"buckets", 1))):
            buckets.hgetall(f"{self._tag}s:{bucket}")
        lists = [entry for bucket in await buckets.execute() for entry in bucket.items()]
        assert len(lists) == int(counters.get(b"lists", 0))
        followees = []
        names = self._redis.pipeline(transaction=False)
        for followee, numbers in lists:
            for start in range(0, len(numbers), 3):
                number = int.from_bytes(numbers[start : start + 3])
                names.hget(f"{self._tag}i:{number // 100}", str(number % 100))
                followees.append(followee.decode())
        followers = [name.decode() for name in await names.execute()]
        return list(zip(followers, followees, strict=True))
