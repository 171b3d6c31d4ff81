"""What a feed must be, read from the bare store; shares nothing with the code under test."""

from redis.asyncio import Redis


class Truth:
    """Reads the keys of a store of one shard directly."""

    def __init__(self, redis: "Redis", tag: str) -> None:
        self._redis = redis
        self._tag = tag

    async def feed(self, user: str) -> list[int]:
        """The feed by its definition: live ids of the outboxes of all sources."""
        members = await self._redis.hkeys(f"{self._tag}e:{user}")
        pipeline = self._redis.pipeline(transaction=False)
        for entity in {user, *(name.decode() for name in members if name >= b" ")}:
            pipeline.lrange(f"{self._tag}o:{entity}", 1, -1)
        found = {int(one) for outbox in await pipeline.execute() for one in outbox}
        if not found:
            return []
        bodies = await self._redis.mget([f"{self._tag}a:{one}" for one in found])
        alive = [one for one, body in zip(found, bodies, strict=True) if body]
        return sorted(alive, reverse=True)

    async def check_edges(self, users: set[str]) -> None:
        """Both ends of every edge agree, the marks name its shard, few followers are in order."""
        edges: dict[tuple[str, str], int] = {}
        few = await self._few()
        index = list(few)
        pipeline = self._redis.pipeline(transaction=False)
        for user in users:
            pipeline.hgetall(f"{self._tag}e:{user}")
            pipeline.zrange(f"{self._tag}w:{user}", 0, -1, withscores=True)
            pipeline.smembers(f"{self._tag}p:{user}")
        found = await pipeline.execute()
        for number, user in enumerate(users):
            fields, many, pulled = found[3 * number : 3 * number + 3]
            following = {name: int(at) for name, at in fields.items() if name >= b" "}
            edges |= {(user, name.decode()): at for name, at in following.items()}
            followers = {(name.decode(), user) for name, _ in many}
            assert not followers & set(index), "both few and many"
            index += followers
            assert pulled <= set(following)
            assert fields.get(b"\2") == b"\x80" or not any(one == user for _, one in index)
            for name, at in many:
                assert edges.get((name.decode(), user), at) == at
        assert sorted(edges) == sorted(index)
        for user in users:
            positions = [edges[name, followee] for name, followee in few if followee == user]
            assert positions == sorted(positions)

    async def _few(self) -> list[tuple[str, str]]:
        """The edges in the lists of few followers, (follower, followee), each list in its order."""
        tallies = await self._redis.hgetall(f"{self._tag}t")
        buckets = self._redis.pipeline(transaction=False)
        for bucket in range(int(tallies.get(b"buckets", 1))):
            buckets.hgetall(f"{self._tag}s:{bucket}")
        lists = [entry for bucket in await buckets.execute() for entry in bucket.items()]
        assert len(lists) == int(tallies.get(b"lists", 0))
        followees = []
        names = self._redis.pipeline(transaction=False)
        for followee, numbers in lists:
            for first in range(0, len(numbers), 3):
                number = int.from_bytes(numbers[first : first + 3])
                names.hget(f"{self._tag}i:{number // 100}", str(number % 100))
                followees.append(followee.decode())
        found = [name.decode() for name in await names.execute()]
        return list(zip(found, followees, strict=True))
