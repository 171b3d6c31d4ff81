"""Known bugs of following."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import CELEBRITIES, COSTS, LOST, MODEL, NO_MORE, PAIRS, REPLACED

BUGS = (
    Bug(
        "rank-positions",
        "a fan-out continues by rank: an unfollow moves a follower out of the next chunk",
        (
            (
                "core/lua/lib/followers.lua",
                "'(' .. position, '+inf', 'LIMIT', 0, count)",
                "'-inf', '+inf', 'LIMIT', tonumber(position) or 0, count)",
            ),
            (
                "core/lua/lib/push.lua",
                "redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1])",
                "tostring((tonumber(position) or 0) + i - 1)",
            ),
            (
                "core/lua/lib/push.lua",
                "redis.call('ZSCORE', key(FOLLOWERS, author), followers[budget])",
                "tostring((tonumber(position) or 0) + budget)",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "few-left-behind",
        "when few followers become many, the index loses the first few followers",
        (("core/lua/lib/followers.lua", "ipairs(follower_names(numbers)) do", "ipairs({}) do"),),
        (MODEL, "tests/unit/test_followers.py"),
    ),
    Bug(
        "follow-shows-nothing",
        "a follow makes a PUSH edge to a warm feed: the feed lacks the followee's old activities",
        (
            (
                "core/lua/follow.lua",
                "redis.call('SADD', key(PULLED, follower), followee)",
                "redis.call('EXISTS', key(PULLED, follower))",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "bitmap-after-edge",
        "a follow makes the edge before it marks the follower's shard at the followee",
        (
            (
                "core/edges.py",
                (
                    "modes = await self._mark(\n"
                    "            {(new_edges[index].followee, shard) "
                    "for index, shard in shards.items()}\n"
                    "        )"
                ),
                "modes = {new.followee: b'' for new in new_edges}",
            ),
            (
                "core/edges.py",
                "        return batch.results\n\n    async def _make(",
                "        await self._mark("
                "{(new.followee, self._store.shard_for(new.follower)) for new in new_edges})\n"
                "        return batch.results\n\n    async def _make(",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "ghost-after-unfollow",
        "an unfollow leaves the stored feed as it is",
        (("core/lua/unfollow.lua", "  redis.call('DEL', cache_key(FEED, follower))\n", ""),),
        (MODEL,),
    ),
    Bug(
        "unfollow-leaves-the-index",
        "an unfollow leaves the follower in the index: activities under way still reach the feed",
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
        "stale-for-good",
        "a server does not greet the store again after the store refused an edge as stale",
        (
            ("core/edges.py", "            await self._store.greet_again()\n", ""),
            ("core/store.py", "            if member.eras != eras:\n", "            if False:\n"),
        ),
        (f"{REPLACED}::test_service_works_at_once_after_a_flush_of_the_store",),
    ),
    Bug(
        "push-after-the-edges",
        "a flip back turns the edges of an entity to PUSH before the entity is pushed again",
        (
            (
                "core/sources.py",
                "self.mode[:1] == keys.MODE_PULL",
                "self.mode[:1] in (keys.MODE_PULL, keys.MODE_TO_PUSH)",
            ),
        ),
        (NO_MORE,),
    ),
    Bug(
        "new-follower-of-a-celebrity",
        "a new follower of a celebrity gets a PUSH edge",
        (
            (
                "core/lua/follow.lua",
                "local is_pull = is_pulled(celebrity_mode(followee, mode))",
                "local is_pull = celebrity_mode(followee, mode) == nil",
            ),
        ),
        (CELEBRITIES,),
    ),
    Bug(
        "late-shard",
        "a shard whose first follower comes after a flip does not learn of the flip",
        (("core/lua/follow.lua", "if is_pull_wanted(mode) and", "if mode == 'X' and"),),
        (CELEBRITIES,),
    ),
    Bug(
        "mark-lost",
        "a follow makes an edge although the store has lost the mark of the edge's shard",
        (
            (
                "core/lua/follow.lua",
                "if not era_is(era) then return 'stale' end\n",
                "",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "bucket-guessed",
        "a script uses the number of buckets of one shard for another shard",
        (
            (
                "core/lua/lib/followers.lua",
                "    if numbers then return bucket, numbers end\n",
                "    do return bucket, numbers end\n",
            ),
        ),
        (
            "tests/unit/test_followers.py"
            "::test_followers_are_found_where_shards_have_other_numbers_of_buckets",
        ),
    ),
    Bug(
        "following-read-for-each-page",
        "each page of a list of followees reads all edges of the follower",
        (
            (
                "core/following.py",
                "            if entity in self._kept:\n",
                "            if not entity:\n",
            ),
        ),
        (COSTS,),
    ),
    Bug(
        "following-kept-without-asking",
        "a list shows kept edges although an edge has changed since",
        (("core/following.py", "                    and kept.generation == generation\n", ""),),
        (COSTS,),
    ),
    Bug(
        "following-kept-over-a-loss",
        "a list shows edges that the store has lost, when their generation comes back",
        (
            (
                "core/following.py",
                "                    and kept.era == self._store.eras[shard]\n",
                "",
            ),
        ),
        (COSTS,),
    ),
    Bug(
        "followers-full-pages-of-each-shard",
        "a page of followers reads a whole page from each shard",
        (
            (
                "core/edges.py",
                "chunk = min(limit, 4 + 2 * limit // max(1, len(shards)))",
                "chunk = limit",
            ),
        ),
        (COSTS,),
    ),
)
