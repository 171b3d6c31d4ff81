"""The bugs: each is one that a published feed system has, or that docs/design.md argues against."""

from dataclasses import dataclass

MODEL = "tests/model/test_model.py::test_small_caps"
PAIRS = "tests/interleavings/test_interleavings.py::test_pair"
OVERTAKEN = (
    "tests/interleavings/test_interleavings.py::test_an_older_edge_does_not_flip_a_newer_one"
)


@dataclass(frozen=True)
class Bug:
    """A change of the sources, and the tests that must notice it."""

    name: str
    what: str
    changes: tuple[tuple[str, str, str], ...]
    """File below ``feedsvc``, the right text, which stands there once, and the wrong one."""
    tests: tuple[str, ...]


BUGS = (
    Bug(
        "no-building-marker",
        "a rebuild writes its list without a marker first: what is pushed meanwhile is lost",
        (
            (
                "core/lua/build_begin.lua",
                "  redis.call('RPUSH', feed, '!' .. ARGV[2])\n",
                "",
            ),
            (
                "core/lua/build_commit.lua",
                "if stored[1] ~= '!' .. ARGV[2] then return -1 end\n",
                "",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "rebuild-without-generation",
        "a rebuild is committed although an edge has changed since it began",
        (
            (
                "core/lua/build_commit.lua",
                "if (generation or '') ~= ARGV[3] then return -1 end\n",
                "",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "rank-positions",
        "a fan-out goes on by rank: an unfollow moves a follower over the edge of a chunk",
        (
            (
                "core/lua/lib/followers.lua",
                "'(' .. position, '+inf', 'LIMIT', 0, count)",
                "'-inf', '+inf', 'LIMIT', tonumber(position) or 0, count)",
            ),
            (
                "core/lua/push.lua",
                "return redis.call('ZSCORE', key(FOLLOWERS, author), followers[i])",
                "return tostring((tonumber(position) or 0) + i)",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "few-left-behind",
        "when few followers become many, those that were few are not taken along",
        (("core/lua/lib/followers.lua", "ipairs(names_of(numbers)) do", "ipairs({}) do"),),
        (MODEL, "tests/unit/test_followers.py"),
    ),
    Bug(
        "flip-without-epoch",
        "an edge is flipped to PUSH by a merge that was read for an earlier edge",
        (
            (
                "core/lua/settle.lua",
                "if redis.call('HGET', key(EDGES, follower), followee) ~= ARGV[3] "
                "then return 0 end\n",
                "",
            ),
        ),
        (OVERTAKEN,),
    ),
    Bug(
        "follow-shows-nothing",
        "following a warm feed writes PUSH at once: what the followee did before is missing",
        (
            (
                "core/lua/follow.lua",
                "redis.call('SADD', pulled, followee)",
                "redis.call('SISMEMBER', pulled, followee)",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "bitmap-after-edge",
        "the followee's shard learns of the follower after the edge is there",
        (
            (
                "core/edges.py",
                "        await self._mark(set(",
                "        late = lambda: self._mark(set(",
            ),
            (
                "core/edges.py",
                "*(settle(edge) for edge in pulled.values()))\n        return results",
                "*(settle(edge) for edge in pulled.values()))\n"
                "        await late()\n        return results",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "cursor-inclusive",
        "a page token includes its item: the last of a page is the first of the next",
        (
            (
                "convert.py",
                "Cursor(older=True, id=page.older)",
                "Cursor(older=True, id=page.older + 1)",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "full-page-promises-more",
        "a full page promises a next one that is empty",
        (("core/feed.py", "more = len(items) > size", "more = len(items) >= size"),),
        (MODEL,),
    ),
    Bug(
        "ghost-after-unfollow",
        "unfollowing leaves the stored feed as it is",
        (("core/lua/unfollow.lua", "  redis.call('DEL', key(FEED, follower))\n", ""),),
        (MODEL,),
    ),
    Bug(
        "unfollow-leaves-the-index",
        "a post in flight comes back after an unfollow: the index still names the follower",
        (
            (
                "core/lua/unfollow.lua",
                "  followers_remove(followee, follower)\n",
                "",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "appended-not-inserted",
        "what is published with an old time is appended, not put in its place",
        (("core/lua/lib/packed.lua", "  if tail < id then\n", "  if tail ~= id then\n"),),
        (MODEL,),
    ),
    Bug(
        "no-floor",
        "the oldest stored id is taken for the end: what was trimmed is lost for good",
        (
            (
                "core/feed.py",
                "if at.older and exhausted and stored.floor:",
                "if at.older and exhausted and stored.floor < 0:",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "retry-publishes-again",
        "a request id is not looked at: a retry publishes a second activity",
        (
            (
                "core/lua/publish.lua",
                "local known = request_result(request, digest)",
                "local known = nil",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "told-twice",
        "a repeated delivery is told to the live log again",
        (
            (
                "core/lua/lib/live.lua",
                "  if redis.call('SISMEMBER', before, mark) == 1 or redis.call('SADD', seen, mark) "
                "== 0 then return 0 end\n",
                "  redis.call('SADD', seen, mark)\n",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "told-only-when-new-in-the-feed",
        "the live log is told only what the stored feed did not hold: a rebuild swallows events",
        (
            (
                "core/lua/push.lua",
                "    local follower, cost = followers[i], 1\n",
                "    local follower, cost = followers[i], 1\n    local outcome\n",
            ),
            (
                "core/lua/push.lua",
                "      local outcome\n      outcome, cost",
                "      outcome, cost",
            ),
            (
                "core/lua/push.lua",
                "if any_live and is_live(follower)",
                "if any_live and outcome ~= PRESENT and is_live(follower)",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "trim-takes-the-marker",
        "trimming a list that is being built takes its marker, and it passes for a whole feed",
        (
            (
                "core/lua/lib/packed.lua",
                "if redis.call('LINDEX', list, 0):byte() == MARKER then",
                "if false then",
            ),
        ),
        ("tests/unit/test_packed.py",),
    ),
)
