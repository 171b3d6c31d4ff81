"""Warnings at the start of a server or a worker: each names a danger and its remedy."""

import ipaddress
from collections.abc import Iterator

from feedsvc.config import Config
from feedsvc.core.store_facts import KeySample, Persistence, StoreFacts
from feedsvc.process import Survey

#: The danger and the remedy of each kind of persistence that may lose acknowledged writes.
PERSISTENCE_WARNINGS = {
    Persistence.SYNCED_EVERY_SECOND: (
        "the store syncs its append-only file once a second: a crash of its machine may lose the "
        "writes of the last two seconds; run `CONFIG SET appendfsync always` on the store to lose "
        "none"
    ),
    Persistence.NOT_SYNCED: (
        "the store leaves it to the operating system when its append-only file reaches the disk: a "
        "crash of its machine may lose the writes of the last half minute; run `CONFIG SET "
        "appendfsync always` on the store to lose none"
    ),
    Persistence.APPEND_ONLY_FILE: (
        "the store does not let feedsvc read how often it syncs its append-only file: see that "
        "`appendfsync` is `always`, or a crash may lose the last writes"
    ),
    Persistence.SNAPSHOTS: (
        "the store has no append-only file: a crash loses all writes since its last snapshot; run "
        "`CONFIG SET appendonly yes` and `CONFIG SET appendfsync always` on the store"
    ),
    Persistence.NONE: (
        "the store keeps nothing on disk: a crash loses all data; run `CONFIG SET appendonly yes` "
        "and `CONFIG SET appendfsync always` on the store"
    ),
}


def server_warnings(config: Config, survey: Survey) -> list[str]:
    """Return the warnings of a server that serves."""
    warnings = store_warnings(config, survey)
    if not _is_loopback(config.host):
        warnings.append(
            f"the server listens on {config.host}, beyond this machine, and has no authentication: "
            "let only trusted programs reach its port, or give --host 127.0.0.1"
        )
    if not config.workers:
        warnings.append(
            "the server has no workers (--workers 0): an activity for more than "
            f"{config.limits.inline_audience:,} followers waits until a `feedsvc worker` process "
            "delivers it"
        )
    return warnings


def store_warnings(config: Config, survey: Survey) -> list[str]:
    """Return the warnings about a store."""
    facts, keys = survey.facts, survey.keys
    if facts is None:
        return ["the store does not answer questions about its settings: run `feedsvc status`"]
    warnings = [*_persistence_warnings(facts), *_foreign_key_warnings(facts, keys)]
    if config.redis_url is not None and not facts.max_memory:
        warnings.append(
            "the store has no memory limit: it may grow until the system ends it; run `CONFIG SET "
            "maxmemory <bytes>` on the store, well below the memory of its machine"
        )
    return warnings


def _persistence_warnings(facts: StoreFacts) -> Iterator[str]:
    if facts.persistence in PERSISTENCE_WARNINGS:
        yield PERSISTENCE_WARNINGS[facts.persistence]


def _foreign_key_warnings(facts: StoreFacts, keys: KeySample | None) -> Iterator[str]:
    if keys is not None and keys.foreign:
        yield (
            f"the store's database also holds keys of other programs ({keys.foreign:,} of "
            f"{keys.sampled:,} keys looked at, {facts.keys:,} in all): give feedsvc a database of "
            "its own, by the number at the end of --redis-url, or a store of its own"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
