"""Known bugs of reading and building feeds."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    AGAIN,
    BOUNDS,
    DEEP,
    DEEP_READS,
    MERGE,
    MODEL,
    NO_MORE,
    PAIRS,
    REFUSED,
)

BUGS = (
    Bug(
        "no-building-marker",
        "a rebuild writes its list without a marker first: what is pushed meanwhile is lost",
        (
            (
                "core/lua/build_begin.lua",
                "  redis.call('RPUSH', feed, '!' .. nonce)\n",
                "",
            ),
            (
                "core/lua/build_commit.lua",
                "if stored[1] ~= '!' .. nonce then return -1 end\n",
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
                "if (redis.call('HGET', key(EDGES, user), GENERATION) or '') ~= generation then\n",
                "if false then\n",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "full-page-promises-more",
        "a full page promises a next one that is empty",
        (
            (
                "core/pages.py",
                "has_more = len(self.items) > kept",
                "has_more = len(self.items) >= kept",
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
                "core/feeds.py",
                "if cursor.older and exhausted and stored.floor:",
                "if cursor.older and exhausted and stored.floor < 0:",
            ),
        ),
        (MODEL,),
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
    Bug(
        "built-by-an-old-merge",
        "a rebuild settles an edge by an outbox that was read before the flip",
        (
            (
                "core/lua/build_commit.lua",
                "if mode == mode_before and not is_pulled(mode) then",
                "if mode_before and not is_pulled(mode) then",
            ),
        ),
        (NO_MORE,),
    ),
    Bug(
        "page-as-long-as-it-comes",
        "a page holds as many items as were asked for, whatever their bytes",
        (
            (
                "core/pages.py",
                "kept = min(size, count_fitting(len(frame) for _, frame in self.items))",
                "kept = size",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "merge-all-at-once",
        "a wide read has all its calls under way at once: others wait for hundreds of them",
        (
            (
                "core/outbox.py",
                "run_concurrently(lane, min(CALLS_A_MERGE, calls))",
                "run_concurrently(lane, calls)",
            ),
        ),
        (MERGE,),
    ),
    Bug(
        "wide-merges-without-bound",
        "any number of wide reads run at a time",
        (
            (
                "core/outbox.py",
                "async with self._wide if len(entities) > WIDE else nullcontext():",
                "async with nullcontext():",
            ),
        ),
        (MERGE,),
    ),
    Bug(
        "shards-in-one-go",
        "the shards of ten thousand names are computed while everybody else waits",
        (("core/outbox.py", "if number % NAMES_A_TURN == 0:", "if number < 0:"),),
        (MERGE,),
    ),
    Bug(
        "deep-pages-ask-everybody",
        "each page below the warm feed reads the outboxes of all that is followed",
        (
            (
                "core/feeds.py",
                "segment = await self._deep.read(user, cursor, wanted)",
                "segment = None",
            ),
        ),
        (DEEP,),
    ),
    Bug(
        "late-below-the-feed-forgotten",
        "what is delivered below the warm feed is not told to the deep segment",
        (
            (
                "core/lua/lib/feed.lua",
                "  if outcome == BELOW or cost == FAR then "
                "deep_late(user, id, source, outcome == BELOW) end\n",
                "",
            ),
        ),
        (DEEP, DEEP_READS),
    ),
    Bug(
        "late-while-building-forgotten",
        "what is delivered late while a deep segment is being built is not in it",
        (("core/lua/deep_commit.lua", "    late_ids[#late_ids + 1] = id\n", ""),),
        (DEEP_READS,),
    ),
    Bug(
        "deep-segment-outlives-a-cold-feed",
        "what was delivered while the feed was cold is not in its deep segment",
        (("core/lua/build_begin.lua", "  redis.call('DEL', cache_key(DEEP, user))\n", ""),),
        (f"{DEEP}::test_deep_page_shows_every_change_since_it_was_cached",),
    ),
    Bug(
        "deep-segment-shows-what-was-let-go",
        "a deep segment is relied on however much was delivered since it was built",
        (
            (
                "core/lua/lib/deep.lua",
                "  if spent + redis.call('LLEN', cache_key(FEED, user)) - length"
                " > tonumber(allowance) then\n",
                "  if false then\n",
            ),
            ("core/lua/lib/feed.lua", "    if head then deep_spend(deep, head, trimmed) end\n", ""),
        ),
        (f"{DEEP}::test_deep_page_hides_what_the_outboxes_have_trimmed",),
    ),
    Bug(
        "warm-read-needs-a-write",
        "a store that refuses writes refuses to read warm feeds",
        (("core/lua/feed_read.lua", "redis.pcall('PEXPIRE'", "redis.call('PEXPIRE'"),),
        (REFUSED,),
    ),
    Bug(
        "warm-read-closes-a-log",
        "reading a warm feed takes away a log whose lease ran out, which is a write",
        (
            (
                "core/lua/feed_read.lua",
                "deadline and deadline * 1000 > clock_us() and log_tail(user) or ''",
                "deadline and is_live(user) and log_tail(user) or ''",
            ),
        ),
        (REFUSED,),
    ),
    Bug(
        "cold-read-needs-a-write",
        "a cold feed cannot be read while the store refuses writes",
        (
            (
                "core/background.py",
                "            return None  # the store may ",
                "            raise  # ",
            ),
        ),
        (REFUSED,),
    ),
    Bug(
        "outbox-log-read-after-the-outbox",
        "a page of an outbox has a token behind what happened while it was read",
        (
            (
                "core/feeds.py",
                "            return _slice_of(merged, log_tail)",
                "            return _slice_of(merged, await self._log_tail(log))",
            ),
        ),
        (f"{AGAIN}::test_outbox_page_loses_nothing_that_is_published_meanwhile",),
    ),
)
