"""Loader of the Lua scripts: puts the key schema and the used library parts before each script.

The store makes every function and every shared variable of a script anew at each call. So a script
gets only the functions of a library that it uses, and names in capitals are replaced by their
values.

The first line of a script or library may say ``-- include: <library> <library> ...``. A file names
the libraries that it uses itself; their own includes come with them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files

from feedsvc.config import Limits
from feedsvc.core.keys import LUA, lua_names, tags

#: Scripts that work on no shard: they get neither the key schema nor the limits.
SHARDLESS = frozenset({"meta"})

_INCLUDE = "-- include:"
#: Names in capitals for numbers and texts.
_CONSTANT = re.compile(
    r"^local ([A-Z_]+(?:, [A-Z_]+)*) = ((?:\d+|'[^']*')(?:, (?:\d+|'[^']*'))*)$", re.MULTILINE
)
#: The same names where a script uses them. Whole comments and texts match too, so that no name
#: inside them does.
_NAME = re.compile(r"--.*|'[^']*'|\b[A-Z_]+\b")


class IncludeError(Exception):
    """A file includes a missing library, or libraries include each other in a circle."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the store gets it."""

    name: str
    source: str
    sha: str


def includes(source: str) -> list[str]:
    """Return the libraries that the first line of a source names."""
    first_line = source.partition("\n")[0]
    return first_line.removeprefix(_INCLUDE).split() if first_line.startswith(_INCLUDE) else []


def resolved(source: str, libraries: Mapping[str, str]) -> list[str]:
    """Return the names of all libraries that a source needs, each once and after its own includes.

    Raise IncludeError if a library does not exist or includes itself by way of others.
    """
    names: list[str] = []
    path: list[str] = []

    def visit(wanted: Iterable[str]) -> None:
        for name in wanted:
            if name in names:
                continue
            if name in path:
                raise IncludeError(f"libraries include each other: {' > '.join([*path, name])}")
            if name not in libraries:
                raise IncludeError(f"there is no library {name!r} to include")
            path.append(name)
            visit(includes(libraries[name]))
            path.pop()
            names.append(name)

    visit(includes(source))
    return names


def assembled(source: str, library: str, names: Mapping[str, str]) -> str:
    """Return a script with the parts of a library that the script uses before it.

    A part begins with ``local`` at the beginning of a line. It may use the parts before it.
    ``names``, and the library's own constants in capitals, are replaced by their values.
    """
    parts, constants = _parsed(library)
    values = {**names, **constants}

    def with_values(lua: str) -> str:
        return _NAME.sub(lambda match: values.get(match[0], match[0]), lua)

    source = with_values(source)
    used = _words(re.sub(r"--.*", "", source))
    for defined, part in reversed(parts):
        if not used.isdisjoint(defined):
            part_with_values = with_values(part)
            source = part_with_values + source
            used |= _words(part_with_values)
    return source


@lru_cache(maxsize=64)
def _parsed(library: str) -> tuple[list[tuple[set[str], str]], dict[str, str]]:
    """Return the parts of a library, each with the names that it defines, and its constants."""
    library = re.sub(r" *--.*", "", library)
    constants = {
        name: value
        for line in _CONSTANT.finditer(library)
        for name, value in zip(line[1].split(", "), line[2].split(", "), strict=True)
    }
    parts = [
        (_words(defines[1]), part)
        for part in re.split(r"^(?=local )", _CONSTANT.sub("", library), flags=re.MULTILINE)
        if (defines := re.match(r"local (?:function )?(\w+(?:, \w+)*)", part))
    ]
    return parts, constants


@lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """Return the sources of ``lua/lib`` by name."""
    folder = files("feedsvc.core") / "lua" / "lib"
    return {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in folder.iterdir()
        if entry.name.endswith(".lua")
    }


@lru_cache(maxsize=8)
def load(limits: Limits, *, one_node: bool = True) -> dict[str, Script]:
    """Return all scripts by name, made for these limits.

    ``one_node``: true if all shards are on one node, and a script may touch several shards.
    Raise IncludeError if a file names a library that cannot be included.
    """
    names = lua_names() | {name: str(value) for name, value in _constants(limits).items()}
    names["ONE_NODE"] = "true" if one_node else "false"
    names["TAGS"] = "{" + ", ".join(f"'{tag}'" for tag in tags(limits.shards)) + "}"
    scripts = {}
    for entry in (files("feedsvc.core") / "lua").iterdir():
        name = entry.name.removesuffix(".lua")
        if name == entry.name:
            continue
        source = entry.read_text()
        if name not in SHARDLESS:
            library = "\n".join(
                [LUA, *(libraries()[include] for include in resolved(source, libraries()))]
            )
            source = assembled(source, library, names)
        # SHA-1 is the store's own name for a script.
        scripts[name] = Script(name, source, sha1(source.encode()).hexdigest())  # noqa: S324
    return scripts


def _constants(limits: Limits) -> dict[str, int]:
    """Return the limits by the names that scripts use for them."""
    return {
        "FEED_CAP": limits.feed_cap,
        "FEED_MAX": limits.feed_cap + limits.feed_slack,
        "FEED_TTL_MS": limits.feed_ttl * 1000,
        "OUTBOX_CAP": limits.outbox_cap,
        "MAX_FOLLOWEES": limits.max_followees,
        "SHARD_COUNT": limits.shards,
        "CELEBRITY_THRESHOLD": limits.celebrity_threshold,
        "MAX_JOBS": limits.max_jobs,
        "JOB_LEASE_MS": limits.job_lease * 1000,
        "JOB_TRIES": limits.job_tries,
        "PUSH_CHUNK": limits.push_chunk,
        "BUILD_TTL_MS": limits.build_ttl * 1000,
        "LOG_CAP": limits.log_cap,
        # A reader renews a lease when a quarter of it is over: whenever the last reader leaves, at
        # least the time of the setting remains.
        "LOG_LEASE_MS": limits.log_lease * 2000,
        # As many ids as a log and its feed can name together: no delivery repeats an older id.
        "SEEN_CAP": limits.log_cap + limits.feed_cap + limits.feed_slack,
        # For this time an operator can see how a delivery ended.
        "DELIVERY_TTL_MS": limits.delivery_ttl * 1000,
        # The tombstone that retention leaves outlives every feed that may still hold the id.
        "TOMBSTONE_MS": 2 * limits.feed_ttl * 1000,
    }


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
