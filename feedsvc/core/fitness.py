"""Fitness: whether a store can be used at all, and what to do if it cannot."""

from typing import Any

from feedsvc.errors import StoreUnfit

#: The oldest version with all that the scripts use, for both Redis and Valkey.
OLDEST = (7, 0)


def check(info: dict[str, Any]) -> None:
    """Check what the store's INFO says of it. Raises StoreUnfit."""
    name, version = "Redis", str(info.get("redis_version", "0"))
    if "valkey_version" in info:
        name, version = "Valkey", str(info["valkey_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreUnfit(
            f"the store is {name} {version}: Redis 7.0, Valkey 8 or a later one is needed"
        )
    if info.get("role") == "slave":
        raise StoreUnfit(
            "the store is a replica and read-only: give the primary's address in --redis-url"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if str(policy).startswith("allkeys"):
        raise StoreUnfit(
            f"the store evicts any key when memory is short (maxmemory-policy {policy}), and "
            "would lose activities: set maxmemory-policy to noeviction"
        )
