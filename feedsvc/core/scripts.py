"""Loads the scripts of ``lua/``, each behind the key schema and what it needs of its includes.

The store makes every function and every shared variable of a script anew at each call. So a script
gets only those functions of a library that it uses, and names in capitals are replaced by what they
stand for.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files

from feedsvc.config import Limits
from feedsvc.core.keys import LUA, lua_names, tags

SHARDLESS = frozenset({"meta"})
"""Scripts that work on no shard: they get neither key schema nor limits."""


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    source: str
    sha: str


def _constants(limits: Limits) -> dict[str, int]:
    """The limits by the names that scripts use for them."""
    return {
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


def assembled(text: str, library: str, names: dict[str, str]) -> str:
    """A script behind those parts of a library that it uses.

    A part begins with ``local`` at the beginning of a line. It may use the parts before it.
    ``names``, and what the library calls in capitals, are replaced by what they stand for.
    """
    library = re.sub(r" *--.*", "", library)
    names = names | {
        name: value
        for line in _CONSTANT.finditer(library)
        for name, value in zip(line[1].split(", "), line[2].split(", "), strict=True)
    }
    library, source = (
        _NAME.sub(lambda found: names.get(found[0], found[0]), lua)
        for lua in (_CONSTANT.sub("", library), text)
    )
    used = re.sub(r"--.*", "", source)
    for part in reversed(re.split(r"^(?=local )", library, flags=re.MULTILINE)):
        defines = re.match(r"local (?:function )?(\w+(?:, \w+)*)", part)
        if defines and _words(defines[1]) & _words(used):
            source, used = part + source, part + used
    return source


#: Names in capitals for numbers and texts.
_CONSTANT = re.compile(
    r"^local ([A-Z_]+(?:, [A-Z_]+)*) = ((?:\d+|'[^']*')(?:, (?:\d+|'[^']*'))*)$", re.MULTILINE
)
#: The same where they are used; comments and texts are matched, so that nothing within them is.
_NAME = re.compile(r"--.*|'[^']*'|\b[A-Z_]+\b")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


@lru_cache(maxsize=8)
def load(limits: Limits, *, one_node: bool = True) -> dict[str, Script]:
    """All scripts by name, made for these limits; ``one_node``: a script may touch all shards."""
    folder = files("feedsvc.core") / "lua"
    library = {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in (folder / "lib").iterdir()
        if entry.name.endswith(".lua")
    }
    names = lua_names() | {name: str(value) for name, value in _constants(limits).items()}
    names["ONE_NODE"] = "true" if one_node else "false"
    names["TAGS"] = "{" + ", ".join(f"'{tag}'" for tag in tags(limits.shards)) + "}"
    scripts = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if name == entry.name:
            continue
        source = entry.read_text()
        if name not in SHARDLESS:
            first = source.partition("\n")[0]
            includes = first.removeprefix("-- include:").split() if "include:" in first else []
            before = "\n".join([LUA, *(library[include] for include in includes)])
            source = assembled(source, before, names)
        scripts[name] = Script(name, source, sha1(source.encode()).hexdigest())  # noqa: S324 (as the store names it)
    return scripts
