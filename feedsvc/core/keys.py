r"""The whole key schema: every key of the store is built here, and by the Lua that stands before each script.

All keys of a shard begin with its hash tag, so that they share one cluster slot and one script may touch them
all. After the tag comes one letter for the kind and a colon; the entity or activity id comes last, as it is, so
that no id can be mistaken for another kind of key.

======  ======  ==============================================================================================
kind    type    what lives there
======  ======  ==============================================================================================
``a``   string  ``a:<activity id>``: the activity's frame (see ``wire.py``); the empty string is its
                tombstone. Lives in the actor's shard, which the id's low byte names
``h``   set     ``h:<activity id>``: the outboxes that hold it; only for activities that have a ``to``. With
                \1 before it the actor, if its own outbox never held it
``x``   string  ``x:<actor>\0<external id>``: the activity id and the digest of what was sent
``q``   string  ``q:<rpc><entity>\0<request id>``: digest and result of a mutation, for 24 hours
``o``   list    ``o:<entity>``: the outbox, a packed list (see ``lua/lib/packed.lua``)
``e``   hash    ``e:<entity>``: for each followee the edge's position. More fields, which are no names: see ``FIELDS``
``p``   set     ``p:<follower>``: those followees whose edge is PULL
``b``   hash    ``b``: of entities that have or had very many followers, ``P<epoch>`` if their edges here are PULL,
                ``U<epoch>`` if they are not any more
``w``   zset    ``w:<followee>``: its followers in this shard by position, the same as in ``e``; if there are many
``s``   hash    ``s:<bucket>``: the followers in this shard of each followee that has few, as a string of their
                numbers, oldest edge first (see ``lua/lib/followers.lua``)
``i``   hash    ``i:<number div 100>``: by the rest, the names of followers of this shard that have a number
``t``   hash    ``t``: ``numbers`` given out, ``buckets`` of ``s``, and ``lists`` in them; ``run`` of the store,
                ``incarnation`` and ``era``, see below
``f``   list    ``f:<entity>``: the warm feed, a packed list; ``!nonce`` at its head while it is being built
``F``   list    ``F:<entity>``: the deep segment of a warm feed, see ``lua/lib/feed.lua``; for a few minutes
``l``   stream  ``l:<log>``: a live log, see ``LOGS``; entry ids are ``<n>-<nonce>``, n = 1, 2, 3, ...
``m``   set     ``m:<log>``: what the live log has told lately: an id for added, its negative for removed
``n``   set     ``n:<log>``: the same, the generation before
``v``   zset    ``v``: the live logs of the shard by the end of their lease, in Unix milliseconds
``g``   list    ``g``: ``<id> <outbox>`` for activities of other shards that an outbox of this shard let go
``G``   string  ``G``: the call that handed out the first of these notes to the process that carries them, for 3 s
``R``   hash    ``R``: by actor whose activities were ``to`` others only, what retention took of them (see ``lua/lib/outbox.lua``)
``d``   zset    ``d``: jobs that the process which made them is doing, by the time from when on others may
``j``   zset    ``j``: the unfinished jobs of the queue by when they were queued, in Unix milliseconds
``J``   list    ``J:<author>``: those jobs of an author that no worker has, the next one first
``A``   list    ``A``: the authors that have such jobs, in the order of their turns
``k``   hash    ``k:<job>``: how far a queued job has come; for ten minutes after its end too
``r``   zset    ``r``: jobs that workers have, by the end of their lease, in Unix milliseconds
``u``   stream  ``u``: dead letters
``z``   zset    ``z``: finished jobs with a ``to``, by their end, for ten minutes; if the store may lose writes
``Z``   zset    ``Z``: those of ``z`` that have to be done again, because the store has lost its last writes
``y``   string  ``y:<Unix time div 10 s>``: how many followers workers reached, for two minutes
``c``   string  ``c:<first 12 digits>``: the last id placed in a crowded stretch of time, about 5 ms, for an hour
======  ======  ==============================================================================================

A store that lost its last writes when it was started anew begins another *incarnation*: it stands after the letter of
``f``, ``F``, ``l``, ``m`` and ``n``, so that feeds are cold and logs gone. There is none before the first time. Its *era* is
random and changes too, also when the store has lost everything: what was begun in one era is not finished in another.
The shards of a node have one incarnation.

``feedsvc:meta`` (hash) holds what the store was created with: ``shards``, ``schema``, ``secret``. ``feedsvc:latest``
(string) is the greatest id that any outbox or feed has ever held, where all shards are on one node. The channel
``<tag>wake`` carries the names of live logs that have grown, with NUL between them. Over ``feedsvc:echo:<random>`` a
process hears itself.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

META = "feedsvc:meta"
ECHO = "feedsvc:echo:"
LATEST = "feedsvc:latest"
SCHEMA = 6

_KINDS = {
    "ACTIVITY": "a",
    "HOLDERS": "h",
    "EXTERNAL": "x",
    "REQUEST": "q",
    "OUTBOX": "o",
    "EDGES": "e",
    "PULLED": "p",
    "FOLLOWERS": "w",
    "FEW_FOLLOWERS": "s",
    "NAMES": "i",
    "TALLIES": "t",
    "FEED": "f",
    "DEEP": "F",
    "LOG": "l",
    "SEEN": "m",
    "SEEN_BEFORE": "n",
    "LIVE": "v",
    "LET_GO": "g",
    "CARRIER": "G",
    "RETIRED": "R",
    "CELEBRITIES": "b",
    "DUE": "d",
    "JOBS": "j",
    "WAITING": "J",
    "AUTHORS": "A",
    "JOB": "k",
    "RUNNING": "r",
    "DEAD": "u",
    "DONE": "z",
    "REDO": "Z",
    "REACHED": "y",
    "CROWDED": "c",
}

FIELDS = {"GENERATION": "", "NUMBER": "\1", "SHARDS": "\2", "MODE": "\3"}
"""Fields of ``e:<entity>`` beside its followees; no entity has such a name.

GENERATION  the last position given out, plus one for every unfollow since: changes whenever an edge does
NUMBER      stands for the name in ``s``; only if the entity ever was among few followers
SHARDS      a bitmap of the shards in which the entity has, or had, followers; bit 0 is the first byte's highest
MODE        only if it ever had very many followers: how they get its activities, and the epoch of that. ``U``: they
            are pushed to; ``P``: they read for themselves; ``>`` and ``<``: on the way to ``P``, and back
"""

SHARDS = FIELDS["SHARDS"]
MODE = FIELDS["MODE"]

LOGS = {"OUTBOX_LOG": "\1", "ALL_LOG": "\2"}
"""Names of live logs. That of a feed is the user's; no entity has a name that begins like the others.

OUTBOX_LOG  before an entity: of its outbox
ALL_LOG     of all that is published in the shard
"""

OUTBOX_LOG = LOGS["OUTBOX_LOG"]
ALL_LOG = LOGS["ALL_LOG"]

_SINGLE = (
    *("LIVE", "LET_GO", "CARRIER", "RETIRED", "TALLIES", "CELEBRITIES"),
    *("DUE", "JOBS", "AUTHORS", "RUNNING", "DEAD", "DONE", "REDO"),
)
"""Kinds of which a shard has one key."""


LUA = r"""
local TAG, INCARNATION = KEYS[1], nil
local function use(tag) TAG = tag end
local function key(kind, name) return TAG .. kind .. ':' .. name end
-- Of what can be lost without harm: see "incarnation" above. All shards of a node have the same.
local function cache_key(kind, name)
  INCARNATION = INCARNATION or redis.call('HGET', TALLIES, 'incarnation') or ''
  return TAG .. kind .. INCARNATION .. ':' .. name
end
"""
"""What stands before a script: KEYS are shards' tags, from which the script builds its keys.

It begins with the first shard; ``use`` goes over to another.
"""


def lua_names() -> dict[str, str]:
    """What the names that scripts use for kinds, fields and logs stand for, as Lua expressions."""
    texts = FIELDS | LOGS
    return {
        "WAKE": "(TAG .. 'wake')",
        "LATEST": f"'{LATEST}'",
        **{name: f"(TAG .. '{_KINDS[name]}')" for name in _SINGLE},
        **{name: f"'{letter}'" for name, letter in _KINDS.items() if name not in _SINGLE},
        **{
            name: f"'{''.join(f'{chr(92)}{ord(one)}' for one in text)}'"
            for name, text in texts.items()
        },
    }


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


def activities(tags: Sequence[str], activity_ids: Iterable[int]) -> list[str]:
    """Of activities in the shards that their ids name; of a shard that there is not, none is."""
    last = len(tags) - 1
    return [f"{tags[one & last]}a:{one}" for one in activity_ids]


def edges(tag: str, entity: str) -> str:
    return f"{tag}e:{entity}"


def followers(tag: str, entity: str) -> str:
    return f"{tag}w:{entity}"


def pulled(tag: str, entity: str) -> str:
    return f"{tag}p:{entity}"


def celebrities(tag: str) -> str:
    return f"{tag}b"


def feed(tag: str, entity: str, incarnation: str = "") -> str:
    return f"{tag}f{incarnation}:{entity}"


def deep(tag: str, entity: str, incarnation: str = "") -> str:
    return f"{tag}F{incarnation}:{entity}"


def log(tag: str, name: str, incarnation: str = "") -> str:
    return f"{tag}l{incarnation}:{name}"


def tallies(tag: str) -> str:
    return f"{tag}t"


def outbox(tag: str, entity: str) -> str:
    return f"{tag}o:{entity}"


def let_go(tag: str) -> str:
    return f"{tag}g"


def dead(tag: str) -> str:
    return f"{tag}u"


def wake(tag: str) -> str:
    return f"{tag}wake"


def request(rpc: str, entity: str, request_id: str) -> str:
    """The name of a request record, without the tag and kind that the script puts before it."""
    return f"{rpc}{entity}\0{request_id}" if request_id else ""


def live(tag: str) -> str:
    return f"{tag}v"
