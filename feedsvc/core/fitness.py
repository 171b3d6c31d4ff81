"""Fitness: checks whether a store can be used at all, and says what to do if it cannot."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from feedsvc.core import causes
from feedsvc.core.store_errors import UNAVAILABLE, is_of_password
from feedsvc.errors import StoreNotReady, StoreUnfit

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


@contextlib.contextmanager
def unfit(address: str) -> Iterator[None]:
    """Raise StoreUnfit, which says what to do, in place of an error that keeps a store closed.

    ``address`` is the store's, without a password. Raise StoreNotReady, a kind of StoreUnfit, if
    the store may open later without a change of a setting.
    """
    began = time.monotonic()
    try:
        yield
    except ReadOnlyError as error:
        raise StoreUnfit(
            "the store is read-only (a replica?): give the primary's address in --redis-url"
        ) from error
    except BusyLoadingError as error:
        raise StoreNotReady("the store is still loading its data: try again in a while") from error
    except MasterNotFoundError as error:
        raise StoreNotReady(
            "no Sentinel can be reached that knows a primary of this service: are they running, "
            "and is --redis-url right?"
        ) from error
    except (*UNAVAILABLE, OSError) as error:
        if is_of_password(error):
            raise StoreUnfit(
                "the store refuses the user or password: give the right ones in --redis-url"
            ) from error
        cause = causes.of_failure(error, time.monotonic() - began)
        raise StoreNotReady(
            f"the store {address} cannot be reached{f' ({cause.text})' if cause else ''}: is it "
            "running, and is --redis-url right?"
        ) from error
    except (MovedError, AskError, ClusterDownError) as error:
        raise StoreUnfit(ONE_NODE) from error
    except ResponseError as error:
        raise StoreUnfit(f"the store does not let us work: {error}") from error
    except RedisError as error:
        raise StoreUnfit(
            "what answers is no Redis or Valkey: give the store's address in --redis-url"
        ) from error
