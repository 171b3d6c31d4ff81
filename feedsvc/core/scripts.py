"""Loads the scripts of ``lua/``, each behind the key schema, the limits and what it includes."""

import re
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from feedsvc.config import Limits
from feedsvc.core.keys import lua_preamble

SHARDLESS = frozenset({"meta"})
"""Scripts that work on no shard: they get neither key schema nor limits."""


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    source: str
    sha: str


def _constants(limits: Limits, source: str) -> str:
    """The limits that a source knows."""
    values = {
        "FEED_CAP": limits.feed_cap,
        "FEED_MOST": limits.feed_cap + limits.feed_slack,
        "FEED_TTL_MS": limits.feed_ttl * 1000,
        "OUTBOX_CAP": limits.outbox_cap,
        "MAX_FOLLOWEES": limits.max_followees,
        "SHARD_COUNT": limits.shards,
        "CELEBRITY_THRESHOLD": limits.celebrity_threshold,
        "MAX_JOBS": limits.max_jobs,
        "JOB_LEASE_MS": limits.job_lease * 1000,
        "JOB_TRIES": limits.job_tries,
        "PUSH_CHUNK": limits.push_chunk,
        "BUILD_MS": limits.build_ttl * 1000,
        "LOG_CAP": limits.log_cap,
        # Renewed when a quarter of it is over: whenever the last reader leaves, the rest is enough.
        "LEASE_MS": limits.log_lease * 2000,
        # As many as a log and the feed before it can name: nothing older is delivered again.
        "SEEN_CAP": limits.log_cap + limits.feed_cap + limits.feed_slack,
        # For how long one can see what became of a delivery.
        "DONE_MS": limits.delivery_ttl * 1000,
        # The tombstone of what retention took outlives every feed that could still hold the id.
        "RETIRED_MS": 2 * limits.feed_ttl * 1000,
    }
    return "".join(
        f"local {name} = {value}\n"
        for name, value in values.items()
        if re.search(rf"\b{name}\b", source)
    )


def load(limits: Limits) -> dict[str, Script]:
    """All scripts by name, made for these limits."""
    folder = files("feedsvc.core") / "lua"
    library = {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in (folder / "lib").iterdir()
        if entry.name.endswith(".lua")
    }
    scripts = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if name == entry.name:
            continue
        text = entry.read_text()
        first = text.partition("\n")[0]
        includes = first.removeprefix("-- include:").split() if "include:" in first else []
        source = "\n".join([*(library[include] for include in includes), text])
        if name not in SHARDLESS:
            source = lua_preamble(source) + _constants(limits, source) + "\n" + source
        scripts[name] = Script(name, source, sha1(source.encode()).hexdigest())  # noqa: S324 (as the store names it)
    return scripts
