"""The key schema: Python and the Lua that stands before each script build every key of the store here.

All keys of a shard begin with its hash tag, so that they share one cluster slot and a script may
touch them all. After the tag comes one letter for the kind and a colon. The entity or activity id
comes last, as it is, so that no id can be mistaken for another kind of key. ``docs/keys.md`` shows
the kinds; ``make gen`` writes it from ``KINDS``.

A store that lost its last writes at a restart begins another *incarnation*. The incarnation stands
after the letter of the kinds that feeds and live logs have, so that feeds are cold and logs gone. A
store that has lost nothing has no incarnation. The *era* of a store is random and changes too, also
when the store has lost everything: what a process began in one era does not end in another. The
shards of a node have one incarnation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

#: Key of what the store was created with.
META = "feedsvc:meta"
#: Begin of the names of the channels on which processes listen to themselves.
ECHO = "feedsvc:echo:"
#: Key of the greatest id that any outbox or feed has ever held.
LATEST = "feedsvc:latest"
#: Version of the stored data; a store with another one is refused.
SCHEMA = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of key in a shard."""

    name: str
    """Name in the Lua scripts."""
    letter: str
    """Letter after the shard's tag."""
    type: str
    """Type of the value in the store."""
    template: str
    """Key without the shard's tag."""
    description: str
    """Content of the value, the scripts that write it, and its end."""

    @property
    def is_single(self) -> bool:
        """True if a shard has one key of the kind."""
        return self.template == self.letter


KINDS = (
    Kind(
        *("ACTIVITY", "a", "string", "a:<activity id>"),
        "Frame of an activity, see `feedsvc/wire.py`, in the shard that the lowest byte of the id names. "
        "`publish` writes it. The empty text is a tombstone: `delete` leaves one without an end. "
        "When the last outbox trims the activity, retention leaves one for twice the time to live "
        "of a feed.",
    ),
    Kind(
        *("HOLDERS", "h", "set", "h:<activity id>"),
        "Outboxes that hold an activity, only if it was published `to` entities. `\\1<actor>` "
        "stands for an actor whose own outbox never held it. `publish` writes the set; `delete`, "
        "or the last outbox that trims the activity, deletes it.",
    ),
    Kind(
        *("EXTERNAL", "x", "string", "x:<actor>\\0<external id>"),
        "Activity id, then the digest of what was sent. `publish` writes it. It expires after twice "
        "the time to live of a feed, from the deletion or the retention of the activity on.",
    ),
    Kind(
        *("REQUEST", "q", "string", "q:<rpc><entity>\\0<request id>"),
        "Digest of a request and its result. `publish`, `delete`, `follow` and `unfollow` write it. "
        "It expires after `request_ttl`, 24 hours by default; after a minute if the caller sent no "
        "request id.",
    ),
    Kind(
        *("OUTBOX", "o", "list", "o:<entity>"),
        "Outbox, a packed list: see `lua/lib/packed.lua`. `publish` and `outbox_add` write it and "
        "trim it to `outbox_cap` ids, 1,000 by default. It never expires.",
    ),
    Kind(
        *("EDGES", "e", "hash", "e:<entity>"),
        "Position of the edge to each followee. Other fields, whose names no entity can have (see "
        "`FIELDS` in `keys.py`), hold the generation of the edges, the entity's number, the bitmap "
        "of the shards that have, or had, followers of the entity, and its mode if it ever was a "
        "celebrity. `follow` writes it, `unfollow` deletes a followee; `mark`, `flip_begin`, "
        "`job_finish` and `dead_discard` write the other fields. It never expires.",
    ),
    Kind(
        *("PULLED", "p", "set", "p:<follower>"),
        "Followees whose edge is PULL. `follow` and `flip` add them; `settle`, `flip`, "
        "`build_commit` and `unfollow` remove them.",
    ),
    Kind(
        *("CELEBRITIES", "b", "hash", "b"),
        "By entity that is or was a celebrity: `P<epoch>` if its edges in this shard must stay PULL, "
        "`U<epoch>` if they may be PUSH again. `flip` and `follow` write it. It never expires.",
    ),
    Kind(
        *("FOLLOWERS", "w", "zset", "w:<followee>"),
        "Followers in this shard by position, the same as in `e`, of a followee with many. `follow` "
        "and `unfollow` write it. It ends with the last follower.",
    ),
    Kind(
        *("FEW_FOLLOWERS", "s", "hash", "s:<bucket>"),
        "Followers in this shard of each followee that has few, as a text of their numbers, oldest "
        "edge first: see `lua/lib/followers.lua`. `follow` and `unfollow` write it. A field ends "
        "with the last follower, or when the followers become many.",
    ),
    Kind(
        *("NAMES", "i", "hash", "i:<number div 100>"),
        "Names of the followers of this shard that have a number, by the remainder of the number. "
        "`follow` writes it. It never expires.",
    ),
    Kind(
        *("TALLIES", "t", "hash", "t"),
        "`numbers` given to followers, `buckets` of `s` and the `lists` in them, which `follow` and "
        "`unfollow` write; the store's `run`, `incarnation` and `era`, which `incarnate` writes. It "
        "has no end.",
    ),
    Kind(
        *("FEED", "f", "list", "f<incarnation>:<entity>"),
        "Warm feed, a packed list, with `!nonce` at its head while it is being built. `build_begin` "
        "and `build_commit` create it; `publish`, `push`, `outbox_add` and `settle` write it; "
        "`unfollow` deletes it. It expires `feed_ttl` after its last read, 30 days by default; while "
        "the build is under way, `build_ttl` after the build began. The sweep deletes feeds of "
        "earlier incarnations.",
    ),
    Kind(
        *("DEEP", "F", "list", "F<incarnation>:<entity>"),
        "Deep segment of a warm feed: see `lua/lib/feed.lua`. `deep_begin` and `deep_commit` create "
        "it; deliveries write it. It expires after five minutes; a build, a flip, a settled edge or "
        "too many deliveries delete it before.",
    ),
    Kind(
        *("LOG", "l", "stream", "l<incarnation>:<log>"),
        "Live log: see `LOGS` in `keys.py`. The ids of its entries are `<n>-<nonce>`, n = 1, 2, 3, "
        "... `live_open` creates it; every script that changes a feed or an outbox appends to it. It "
        "is deleted when its lease has run out, and expires a minute later in any case.",
    ),
    Kind(
        *("SEEN", "m", "set", "m<incarnation>:<log>"),
        "Latest announcements of the live log: an id if it was added, its negative if removed. It is "
        "written and ends with the log, or becomes `n` when it is full.",
    ),
    Kind(
        *("SEEN_BEFORE", "n", "set", "n<incarnation>:<log>"),
        "Announcements of the live log before those of `m`. It ends with the log, or when the next "
        "full `m` takes its place.",
    ),
    Kind(
        *("LIVE", "v", "zset", "v"),
        "Live logs of the shard by the end of their lease, in Unix milliseconds. `live_open` and "
        "`live_read` write it. Scripts that find the end of a lease passed remove the log.",
    ),
    Kind(
        *("TRIM_NOTES", "g", "list", "g"),
        "Trim notes, `<activity id> <outbox>`: an outbox of this shard has trimmed an activity whose "
        "body is in another shard. `publish` and `outbox_add` write them. `trim_notes_take` drops "
        "the notes that a process has carried to the activities' shards.",
    ),
    Kind(
        *("CARRIER", "G", "string", "G"),
        "Call that handed out the first notes of `g` to the process that carries them. "
        "`trim_notes_take` writes it. It expires after 3 seconds.",
    ),
    Kind(
        *("RETIRED", "R", "hash", "R"),
        "By actor, the greatest ids of the actor's to-only activities that the last outbox has "
        "trimmed, by the time of the trim: see `lua/lib/outbox.lua`. "
        "`bodies_release`, `publish` and `outbox_add` write it. It never expires.",
    ),
    Kind(
        *("DUE", "d", "zset", "d"),
        "Jobs that the process which made them is doing, by the time from which workers may take "
        "them. `publish` and `delete` add them; `push`, `job_done`, `job_spill` and `jobs_take` "
        "remove them.",
    ),
    Kind(
        *("JOBS", "j", "zset", "j"),
        "Unfinished jobs of the queue by the time when they were queued, in Unix milliseconds. "
        "`job_spill`, `jobs_take`, `flip_begin` and `dead_replay` add them; `job_finish` removes "
        "them, and so do `job_fail` and `jobs_take` when they make dead letters of them.",
    ),
    Kind(
        *("WAITING", "J", "list", "J:<author>"),
        "Jobs of an author that no worker holds, the next one first. It is written like `j`, and "
        "when a worker gives a job back; `jobs_take` takes from it. It ends with its last job.",
    ),
    Kind(
        *("AUTHORS", "A", "list", "A"),
        "Authors that have jobs waiting in `J`, in the order of their turns. It is written with `J`; "
        "`jobs_take` moves an author to the end, and removes one without jobs.",
    ),
    Kind(
        *("JOB", "k", "hash", "k:<job>"),
        "Record of a queued job with its checkpoint. Queueing a job writes it, and the scripts "
        "`job_*` and `jobs_take` do. It expires `delivery_ttl` after `job_finish`, ten minutes by "
        "default. The record of a dead letter stays; `dead_discard` deletes it unless the job was a delivery.",
    ),
    Kind(
        *("RUNNING", "r", "zset", "r"),
        "Jobs that workers hold by the end of their lease, and jobs that wait for another attempt, "
        "in Unix milliseconds. `jobs_take`, `job_checkpoint` and `job_fail` write it; the end of a "
        "job, or its way back to the queue, removes it.",
    ),
    Kind(
        *("DEAD", "u", "stream", "u"),
        "Dead letters. `job_fail` and `jobs_take` add them; `dead_replay` and `dead_discard` remove "
        "them.",
    ),
    Kind(
        *("DONE", "z", "zset", "z"),
        "Ended jobs with a `to` or an external id, by their end in Unix milliseconds, if the store "
        "may lose writes. `push`, `job_done` and `job_finish` add them and remove those that ended "
        "`delivery_ttl` ago, ten minutes by default; `incarnate` moves all to `Z` when the store has lost writes.",
    ),
    Kind(
        *("REDO", "Z", "zset", "Z"),
        "Jobs of `z` that have to be done again. `incarnate` adds them; `jobs_take` moves them to the "
        "queue.",
    ),
    Kind(
        *("REACHED", "y", "string", "y:<Unix time div 10 s>"),
        "Number of followers that workers reached. `job_checkpoint`, `job_fail` and `job_finish` "
        "count them. It expires after two minutes.",
    ),
    Kind(
        *("CROWDED", "c", "string", "c:<first 12 digits of an id>"),
        "Last id that `publish` placed in a crowded stretch of time, about 5 ms. It expires after an "
        "hour.",
    ),
)
"""All kinds of keys of a shard."""

OTHERS = (
    (
        META,
        "hash",
        "What the store was created with: `shards`, `schema`, `secret`. `meta` writes it once.",
    ),
    (
        *(LATEST, "string"),
        (
            "Greatest id that any outbox or feed has ever held, where all shards are on one node. "
            "Every script that puts a new id into a list raises it."
        ),
    ),
    (
        *("<tag>wake", "channel"),
        (
            "Names of live logs of a shard that have grown, with NUL between them. Every script "
            "that appends to a log publishes there."
        ),
    ),
    (
        *(f"{ECHO}<random>", "channel"),
        "A process publishes a message to itself each second, to learn if its listener still hears.",
    ),
)
"""Keys and channels that are no kind: name, type, description."""

_KINDS = {kind.name: kind.letter for kind in KINDS}
_KINDS_BY_LETTER = {kind.letter: kind for kind in KINDS}
_SINGLE = tuple(kind.name for kind in KINDS if kind.is_single)

FIELDS = {"GENERATION": "", "NUMBER": "\1", "SHARDS": "\2", "MODE": "\3"}
"""Fields of ``e:<entity>`` beside its followees; no entity has such a name.

GENERATION  last position given out, plus one for every unfollow since: changes whenever an edge does
NUMBER      number that stands for the name in ``s``; only if the entity ever was among a few followers
SHARDS      bitmap of the shards in which the entity has, or had, followers; bit 0 is the first byte's
            highest
MODE        letter of ``MODES`` and the epoch of the last flip; only if the entity was ever flipped
"""

SHARDS = FIELDS["SHARDS"]
MODE = FIELDS["MODE"]

MODES = {"MODE_PUSH": "U", "MODE_PULL": "P", "MODE_TO_PULL": ">", "MODE_TO_PUSH": "<"}
"""Letters of a mode; ``sources.py`` and ``lua/lib/modes.lua`` have the predicates.

MODE_PUSH     activities are pushed to the followers
MODE_PULL     followers read the entity's outbox
MODE_TO_PULL  a flip is turning the edges to PULL; activities are still pushed
MODE_TO_PUSH  a flip is turning the edges to PUSH; activities are pushed already
"""

MODE_PUSH = MODES["MODE_PUSH"]
MODE_PULL = MODES["MODE_PULL"]
MODE_TO_PULL = MODES["MODE_TO_PULL"]
MODE_TO_PUSH = MODES["MODE_TO_PUSH"]

LOGS = {"OUTBOX_LOG": "\1", "ALL_LOG": "\2"}
"""Names of live logs. The log of a feed has the user's name, which never begins like the others.

OUTBOX_LOG  before an entity: the log of its outbox
ALL_LOG     the log of all activities that are published in the shard
"""

OUTBOX_LOG = LOGS["OUTBOX_LOG"]
ALL_LOG = LOGS["ALL_LOG"]

LUA = r"""
local TAG = KEYS[1]
local INCARNATION
local function use(tag) TAG = tag end
local function key(kind, name) return TAG .. kind .. ':' .. name end
-- The key of data that the store may lose: its name has the incarnation. All shards of a node have
-- the same incarnation.
local function cache_key(kind, name)
  INCARNATION = INCARNATION or redis.call('HGET', TALLIES, 'incarnation') or ''
  return TAG .. kind .. INCARNATION .. ':' .. name
end
"""
"""Lua that stands before a script: KEYS are shards' tags, from which the script builds its keys.

The first shard is the current one; ``use`` makes another shard the current one.
"""


def lua_names() -> dict[str, str]:
    """Return the names that scripts use for kinds, fields, modes and logs, with their Lua expressions."""
    texts = FIELDS | MODES | LOGS
    return {
        "WAKE": "(TAG .. 'wake')",
        "LATEST": f"'{LATEST}'",
        **{name: f"(TAG .. '{_KINDS[name]}')" for name in _SINGLE},
        **{name: f"'{letter}'" for name, letter in _KINDS.items() if name not in _SINGLE},
        **{name: f"'{_lua_text(text)}'" for name, text in texts.items()},
    }


def _lua_text(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\{ord(char)}" for char in text)


@lru_cache(maxsize=16)
def tags(shards: int) -> tuple[str, ...]:
    """Return the hash tag of each shard: the shortest tags that spread evenly over a cluster's slots.

    Shard ``s`` lies in the ``s``-th of ``shards`` equal ranges of slots.
    """
    width = REDIS_CLUSTER_HASH_SLOTS // shards
    numbers: dict[int, str] = {}
    number = 0
    while len(numbers) < shards:
        numbers.setdefault(key_slot(str(number).encode()) // width, str(number))
        number += 1
    return tuple("{" + numbers[shard] + "}" for shard in range(shards))


def is_own(key: str, tags: Sequence[str]) -> bool:
    """Return whether a key is the service's, by its name; ``tags`` are those of all shards."""
    if key in (META, LATEST):
        return True
    tag, brace, name = key.partition("}")
    if tag + brace not in tags:
        return False
    kind = _KINDS_BY_LETTER.get(name[:1])
    return kind is not None and (name == kind.letter if kind.is_single else ":" in name)


def activities(tags: Sequence[str], activity_ids: Iterable[int]) -> list[str]:
    """Return the keys of activities, each in the shard that its id names.

    An id may name a shard beyond the last shard; its key has no value.
    """
    last_shard = len(tags) - 1
    return [f"{tags[activity_id & last_shard]}a:{activity_id}" for activity_id in activity_ids]


def edges(tag: str, entity: str) -> str:
    """Return the key of an entity's edges and other fields, a hash."""
    return f"{tag}e:{entity}"


def followers(tag: str, entity: str) -> str:
    """Return the key of an entity's followers in a shard, if they are many: a sorted set."""
    return f"{tag}w:{entity}"


def pulled(tag: str, entity: str) -> str:
    """Return the key of the followees whose edge is PULL, a set."""
    return f"{tag}p:{entity}"


def celebrities(tag: str) -> str:
    """Return the key of the modes of celebrities in a shard, a hash."""
    return f"{tag}b"


def feed(tag: str, entity: str, incarnation: str = "") -> str:
    """Return the key of a stored feed, a packed list."""
    return f"{tag}f{incarnation}:{entity}"


def deep(tag: str, entity: str, incarnation: str = "") -> str:
    """Return the key of a feed's deep segment, a packed list."""
    return f"{tag}F{incarnation}:{entity}"


def log(tag: str, name: str, incarnation: str = "") -> str:
    """Return the key of a live log, a stream."""
    return f"{tag}l{incarnation}:{name}"


def tallies(tag: str) -> str:
    """Return the key of a shard's tallies, a hash: see ``TALLIES`` in ``KINDS``."""
    return f"{tag}t"


def outbox(tag: str, entity: str) -> str:
    """Return the key of an outbox, a packed list."""
    return f"{tag}o:{entity}"


def trim_notes(tag: str) -> str:
    """Return the key of the trim notes of a shard's outboxes, a list."""
    return f"{tag}g"


def dead(tag: str) -> str:
    """Return the key of a shard's dead letters, a stream."""
    return f"{tag}u"


def wake(tag: str) -> str:
    """Return the channel of a shard's wake-ups."""
    return f"{tag}wake"


def request(rpc: str, entity: str, request_id: str) -> str:
    """Return the name of a request record, without the tag and the kind; empty without a request id."""
    return f"{rpc}{entity}\0{request_id}" if request_id else ""


def live(tag: str) -> str:
    """Return the key of a shard's live logs by the end of their lease, a sorted set."""
    return f"{tag}v"
