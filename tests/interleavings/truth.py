"""What a feed must be, read from the bare store; shares nothing with the code under test."""

from typing import Any

from redis.asyncio import Redis


class Truth:
    """Reads the keys of a store of one shard directly."""

    def __init__(self, redis: "Redis", tag: str) -> None:
        self._redis = redis
        self._tag = tag

    async def feed(self, user: str) -> list[int]:
        """The feed by its definition: live ids of the outboxes of all sources."""
        members = await self._redis.zrange(f"{self._tag}e:{user}", 0, -1)
        pipeline = self._redis.pipeline(transaction=False)
        for entity in {user, *(name.decode() for name in members if name)}:
            pipeline.lrange(f"{self._tag}o:{entity}", 1, -1)
        found = {int(one) for outbox in await pipeline.execute() for one in outbox}
        if not found:
            return []
        bodies = await self._redis.mget([f"{self._tag}a:{one}" for one in found])
        alive = [one for one, body in zip(found, bodies, strict=True) if body]
        return sorted(alive, reverse=True)

    async def check_edges(self, users: set[str]) -> None:
        """Both ends of every edge agree, and the bitmaps name its shard."""
        edges: dict[tuple[str, str], Any] = {}
        index: dict[tuple[str, str], Any] = {}
        pipeline = self._redis.pipeline(transaction=False)
        for user in users:
            pipeline.zrange(f"{self._tag}e:{user}", 0, -1, withscores=True)
            pipeline.zrange(f"{self._tag}w:{user}", 0, -1, withscores=True)
            pipeline.smembers(f"{self._tag}p:{user}")
            pipeline.getbit(f"{self._tag}b:{user}", 0)
        found = await pipeline.execute()
        for number, user in enumerate(users):
            following, followers, pulled, bit = found[4 * number : 4 * number + 4]
            edges |= {(user, name.decode()): at for name, at in following if name}
            index |= {(name.decode(), user): at for name, at in followers}
            assert pulled <= {name for name, _ in following}
            assert bit or not followers
        assert edges == index
