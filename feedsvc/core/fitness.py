"""Fitness: checks whether a store can be used at all, and says what to do if it cannot."""

from typing import Any

from feedsvc.errors import StoreUnfit

#: The oldest version with all that the scripts use, for both Redis and Valkey.
OLDEST = (7, 0)
#: Slots of a cluster.
SLOTS = 16_384
ONE_NODE = (
    "the store is a node of a cluster and does not own all of its slots: only a cluster of one "
    "node is supported; use one store, with replicas and Sentinels if it must not be down"
)


def fields_of(answer: bytes) -> dict[str, str]:
    """Return the fields of an answer to INFO."""
    return dict(line.split(":", 1) for line in answer.decode().split("\r\n") if ":" in line)


def product_of(info: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the store's product, by its INFO, and the product's version."""
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info.get("redis_version", "0"))


def check(info: dict[str, Any]) -> None:
    """Check the store's INFO. Raise StoreUnfit."""
    name, version = product_of(info)
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreUnfit(
            f"the store is {name} {version}: Redis 7.0, Valkey 8 or a later one is needed"
        )
    if info.get("role") == "slave":
        raise StoreUnfit(
            "the store is a replica and read-only: give the primary's address in --redis-url"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        # With volatile-* the store would lose request ids and tombstones before their time.
        raise StoreUnfit(
            f"the store evicts keys when memory is short (maxmemory-policy {policy}), and would "
            "lose activities or repeat requests: run `CONFIG SET maxmemory-policy noeviction` on "
            "the store, and set it in the store's configuration too"
        )


def check_cluster(info: dict[str, Any]) -> None:
    """Check the store's CLUSTER INFO: one node must own all slots. Raise StoreUnfit."""
    is_whole = (
        info.get("cluster_state") == "ok" and int(info.get("cluster_slots_assigned", 0)) == SLOTS
    )
    if not is_whole or int(info.get("cluster_size", 0)) != 1:
        raise StoreUnfit(ONE_NODE)
