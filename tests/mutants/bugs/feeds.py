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
        "a build stores no marker first: it loses the activities that are pushed meanwhile",
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
        "a build is committed although an edge has changed since the build began",
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
        "a full page promises another page, and that page is empty",
        (
            (
                "paging.py",
                "len(entries) > count)",
                "len(entries) >= count)",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "appended-not-inserted",
        "an activity with an old publish time is appended, not inserted in its order",
        (("core/lua/lib/packed.lua", "  if tail < id then\n", "  if tail ~= id then\n"),),
        (MODEL,),
    ),
    Bug(
        "no-floor",
        "a read ends at the oldest stored id: it never shows what the warm feed has trimmed",
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
        "a trim of a list that is being built removes the marker, and the list counts as a warm "
        "feed",
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
        "a build settles an edge by an outbox that was read before the flip",
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
        "a page holds as many items as the caller asked for, however many bytes they have",
        (
            (
                "core/pages.py",
                "page = cut_page(self.items, size, (len(frame) for _, frame in self.items))",
                "page = cut_page(self.items, size)",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "merge-all-at-once",
        "a wide merge sends all its calls at once: other calls wait for hundreds of them",
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
        "any number of wide merges run at a time",
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
        "a merge computes the shards of ten thousand names in one turn of the event loop",
        (("core/outbox.py", "if number % NAMES_A_TURN == 0:", "if number < 0:"),),
        (MERGE,),
    ),
    Bug(
        "deep-pages-ask-everybody",
        "each page below the warm feed reads the outboxes of all followees",
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
        "a deep segment lacks activities that are delivered below the warm feed",
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
        "a deep segment lacks activities that are delivered late while the segment is being built",
        (("core/lua/deep_commit.lua", "    late_ids[#late_ids + 1] = id\n", ""),),
        (DEEP_READS,),
    ),
    Bug(
        "deep-segment-outlives-a-cold-feed",
        "a deep segment lacks activities that were delivered while the feed was cold",
        (("core/lua/build_begin.lua", "  redis.call('DEL', cache_key(DEEP, user))\n", ""),),
        (f"{DEEP}::test_deep_page_shows_every_change_since_it_was_cached",),
    ),
    Bug(
        "deep-segment-shows-trimmed-ids",
        "readers use a deep segment however many activities were delivered since its build",
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
        "a read of a warm feed closes a log whose lease has run out, which is a write",
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
        "the resume token of an outbox page skips activities that are published during the read",
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
