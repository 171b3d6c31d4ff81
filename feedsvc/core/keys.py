r"""The whole key schema: every key of the store is built here, and by the Lua preamble made here.

All keys of a shard begin with its hash tag, so that they share one cluster slot and one script may touch them
all. After the tag comes one letter for the kind and a colon; the entity or activity id comes last, as it is, so
that no id can be mistaken for another kind of key.

======  ======  ==============================================================================================
kind    type    what lives there
======  ======  ==============================================================================================
``a``   string  ``a:<activity id>``: the activity's frame (see ``activities.py``); the empty string is its
                tombstone. Lives in the actor's shard, which the id's low byte names
``h``   set     ``h:<activity id>``: the outboxes that hold it; only for activities that have a ``to``
``x``   string  ``x:<actor>\0<external id>``: the activity id and the digest of what was sent
``q``   string  ``q:<rpc><entity>\0<request id>``: digest and result of a mutation, for 24 hours
``o``   list    ``o:<entity>``: the outbox, a packed list (see ``lua/lib/packed.lua``)
``b``   string  ``b:<entity>``: a bitmap of the shards in which the entity has, or had, followers
``e``   zset    ``e:<follower>``: the followees by position. The empty name's score is the last position given
                out, which changes whenever an edge does: the generation of the follower's edges
``p``   set     ``p:<follower>``: those followees whose edge is PULL
``w``   zset    ``w:<followee>``: its followers in this shard by position, the same as in ``e``
``f``   list    ``f:<entity>``: the warm feed, a packed list; ``!nonce`` at its head while it is being built
``l``   stream  ``l:<entity>``: the live log; entry ids are ``<n>-<nonce>``, n = 1, 2, 3, ...
``m``   set     ``m:<entity>``: what the live log has told lately: an id for added, its negative for removed
``n``   set     ``n:<entity>``: the same, the generation before
``v``   zset    ``v``: the live entities of the shard by the end of their lease, in Unix milliseconds
``g``   list    ``g``: ``<id> <outbox>`` for activities of other shards that an outbox of this shard let go
``c``   string  ``c:<first 12 digits>``: the last id placed in a crowded stretch of time, about 5 ms, for an hour
======  ======  ==============================================================================================

``feedsvc:meta`` (hash) holds what the store was created with: ``shards``, ``schema``, ``secret``. The channel
``<tag>wake`` carries the names of entities whose live log has grown.
"""

from functools import lru_cache

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

META = "feedsvc:meta"
SCHEMA = 1

_KINDS = {
    "ACTIVITY": "a",
    "HOLDERS": "h",
    "EXTERNAL": "x",
    "REQUEST": "q",
    "OUTBOX": "o",
    "BITMAP": "b",
    "EDGES": "e",
    "PULLED": "p",
    "FOLLOWERS": "w",
    "FEED": "f",
    "LOG": "l",
    "SEEN": "m",
    "SEEN_BEFORE": "n",
    "LIVE": "v",
    "LET_GO": "g",
    "CROWDED": "c",
}

LUA_PREAMBLE = (
    "local TAG = KEYS[1]\n"
    "local function key(kind, name) return TAG .. kind .. ':' .. name end\n"
    + "".join(
        f"local {name} = '{letter}'\n"
        for name, letter in _KINDS.items()
        if name not in ("LIVE", "LET_GO")
    )
    + f"local LIVE = TAG .. '{_KINDS['LIVE']}'\n"
    + f"local LET_GO = TAG .. '{_KINDS['LET_GO']}'\n"
    + "local WAKE = TAG .. 'wake'\n"
)
"""Put before every script: KEYS[1] is the shard's tag, from which the script builds its keys."""


@lru_cache(maxsize=16)
def tags(shards: int) -> tuple[str, ...]:
    """The hash tag of each shard: the shortest ones whose slots are spread evenly over the cluster.

    Shard ``s`` lies in the ``s``-th of ``shards`` equal ranges of slots.
    """
    width = REDIS_CLUSTER_HASH_SLOTS // shards
    found: dict[int, str] = {}
    number = 0
    while len(found) < shards:
        found.setdefault(key_slot(str(number).encode()) // width, str(number))
        number += 1
    return tuple("{" + found[shard] + "}" for shard in range(shards))


def activity(tag: str, activity_id: int) -> str:
    return f"{tag}a:{activity_id}"


def bitmap(tag: str, entity: str) -> str:
    return f"{tag}b:{entity}"


def edges(tag: str, entity: str) -> str:
    return f"{tag}e:{entity}"


def followers(tag: str, entity: str) -> str:
    return f"{tag}w:{entity}"


def pulled(tag: str, entity: str) -> str:
    return f"{tag}p:{entity}"


def feed(tag: str, entity: str) -> str:
    return f"{tag}f:{entity}"


def let_go(tag: str) -> str:
    return f"{tag}g"


def wake(tag: str) -> str:
    return f"{tag}wake"


def request(rpc: str, entity: str, request_id: str) -> str:
    """The name of a request record, without the tag and kind that the script puts before it."""
    return f"{rpc}{entity}\0{request_id}" if request_id else ""


def live(tag: str) -> str:
    return f"{tag}v"
