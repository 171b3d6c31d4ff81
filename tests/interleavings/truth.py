"""What a feed must be, read from the bare store by a few lines that share nothing with the code under test."""

from typing import Any

from redis.asyncio import Redis


class Truth:
    """Reads the keys of a store of one shard directly."""

    def __init__(self, redis: "Redis", tag: str) -> None:
        self._redis = redis
        self._tag = tag

    async def followees(self, user: str) -> set[str]:
        members = await self._redis.zrange(f"{self._tag}e:{user}", 0, -1)
        return {name.decode() for name in members if name}

    async def feed(self, user: str) -> list[int]:
        """The feed by its definition: live ids of the outboxes of all followees and the user's own."""
        found: set[int] = set()
        for entity in {user, *await self.followees(user)}:
            found |= {int(one) for one in await self._redis.lrange(f"{self._tag}o:{entity}", 1, -1)}
        alive = [one for one in found if await self._redis.get(f"{self._tag}a:{one}")]
        return sorted(alive, reverse=True)

    async def check_edges(self, users: set[str]) -> None:
        """Both ends of every edge agree, and the bitmaps name its shard."""
        edges: dict[tuple[str, str], Any] = {}
        index: dict[tuple[str, str], Any] = {}
        for user in users:
            for name, position in await self._redis.zrange(
                f"{self._tag}e:{user}", 0, -1, withscores=True
            ):
                if name:
                    edges[user, name.decode()] = position
                    assert await self._redis.getbit(f"{self._tag}b:{name.decode()}", 0) == 1
            for name, position in await self._redis.zrange(
                f"{self._tag}w:{user}", 0, -1, withscores=True
            ):
                index[name.decode(), user] = position
            pulled = {one.decode() for one in await self._redis.smembers(f"{self._tag}p:{user}")}
            assert pulled <= await self.followees(user)
        assert edges == index
