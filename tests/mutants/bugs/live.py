"""Known bugs of live logs and streams."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    ANNOUNCING,
    CELEBRITIES,
    FAILOVER,
    KNOWN,
    LIVE,
    LOST,
    PAIRS,
    PITFALLS,
    SUBSCRIPTIONS,
)

BUGS = (
    Bug(
        "announced-twice",
        "a repeated delivery is announced in the live log again",
        (
            (
                "core/lua/lib/live.lua",
                "  if redis.call('SISMEMBER', before, mark) == 1 or redis.call('SADD', seen, mark) "
                "== 0 then\n    return\n",
                "  if redis.call('SADD', seen, mark) == 2 then\n    return\n",
            ),
        ),
        (PAIRS,),
    ),
    Bug(
        "log-without-a-lease",
        "a log that lost its lease stays, and its user cannot open a log until it expires",
        (
            (
                "core/lua/live_open.lua",
                "  log_close(name) -- remove the remains of a log that lost its lease\n",
                "",
            ),
        ),
        (f"{LOST}::test_log_without_a_lease_is_replaced",),
    ),
    Bug(
        "listener-stays",
        "the listener stays with a demoted primary, which gets the same messages, but late",
        (("core/wakeups.py", "if subscribed and not receivers:", "if False:"),),
        (f"{FAILOVER}::test_server_follows_its_address_to_a_new_primary",),
    ),
    Bug(
        "deaf",
        "the listener does not notice a channel for wake-ups that stalls without breaking",
        (
            (
                "core/wakeups.py",
                ("                except TimeoutError:\n                    return\n"),
                ("                except TimeoutError:\n                    pass\n"),
            ),
            ("core/wakeups.py", "if subscribed and not receivers:", "if False:"),
        ),
        (
            f"{PITFALLS}/test_background_tasks.py::test_stream_gets_events_although_the_wake_up_connection_stalls",
        ),
    ),
    Bug(
        "celebrities-are-never-live",
        "live followers of a celebrity get no events of its activities",
        (
            (
                "core/lua/announce.lua",
                "local function announce_if_live(entity)\n",
                "local function announce_if_live(entity)\n  if true then return end\n",
            ),
        ),
        (CELEBRITIES,),
    ),
    Bug(
        "announcing-by-all-live-entities",
        "a delete looks at every live entity of a shard, however few follow the author",
        (
            (
                "core/lua/announce.lua",
                "side = followers_count(author) < live_count and 'w' or 'v'",
                "side = 'v'",
            ),
        ),
        (ANNOUNCING,),
    ),
    Bug(
        "announcing-by-all-followers",
        "an announcement to a celebrity's followers looks at all of them, however few are live",
        (
            (
                "core/lua/announce.lua",
                "side = followers_count(author) < live_count and 'w' or 'v'",
                "side = 'w'",
            ),
        ),
        (ANNOUNCING,),
    ),
    Bug(
        "announcing-changes-sides",
        "each chunk of an announcement chooses anew between followers and live entities",
        (
            ("core/lua/announce.lua", "if side == '-' then", "if true then"),
            (
                "core/lua/announce.lua",
                "    position = side .. position\n",
                "    position = side .. (position == '-inf' and position or position:sub(2))\n",
            ),
        ),
        (ANNOUNCING,),
    ),
    Bug(
        "lease-moves-back",
        "an announcement skips a lease that was renewed after the clock was set back",
        (("core/lua/lib/live.lua", "'ZADD', LIVE, 'GT', string", "'ZADD', LIVE, string"),),
        (ANNOUNCING,),
    ),
    Bug(
        "heard-only-after-the-first-read",
        "a stream registers for wake-ups after its first read, and misses events between the two",
        (
            (
                "core/streams.py",
                ("        self._hub.add(cursor)\n        self.wake(cursor)\n"),
                "        self.wake(cursor)\n",
            ),
            (
                "core/streams.py",
                "        self._hub.reschedule(cursor)\n",
                "        self._hub.add(cursor)\n",
            ),
        ),
        (f"{KNOWN}::test_stream_receives_what_happens_during_its_first_read",),
    ),
    Bug(
        "woken-while-it-reads",
        "a stream ignores a wake-up that comes while its log is being read",
        (
            (
                "core/streams.py",
                "            cursor.grew = cursor.is_sent"
                "  # a read that is not sent yet sees the growth\n",
                "            pass\n",
            ),
        ),
        (f"{KNOWN}::test_stream_receives_what_happens_during_its_first_read",),
    ),
    Bug(
        "channel-is-the-truth",
        "streams do not read their logs after the listener has subscribed to its channel again",
        (
            (
                "core/wakeups.py",
                "                    self._wake_all()\n",
                "                    pass\n",
            ),
        ),
        (f"{LIVE}::test_stream_gets_events_of_the_time_without_a_pubsub_connection",),
    ),
    Bug(
        "trimmed-log-resumed",
        "a resume token that is older than the log continues with the oldest entry that remains",
        (
            (
                "core/lua/live_read.lua",
                "if not entries[1] or entries[1][1] ~= after then return 'lost' end",
                "if not entries[1] then return 'lost' end",
            ),
        ),
        (f"{LIVE}::test_resume_token_older_than_the_log_is_refused_with_a_fresh_token",),
    ),
    Bug(
        "log-made-anew-resumed",
        "a log position is only a number: it also fits a new log, or a log that lost its tail",
        (
            (
                "core/lua/live_read.lua",
                "redis.call('XRANGE', cache_key(LOG, name), after,",
                "redis.call('XRANGE', cache_key(LOG, name), after:match('^%d+'),",
            ),
            (
                "core/lua/live_read.lua",
                "entries[1][1] ~= after then",
                "entries[1][1]:match('^%d+') ~= after:match('^%d+') then",
            ),
        ),
        (f"{LIVE}::test_resume_token_of_a_lost_log_tail_is_refused",),
    ),
    Bug(
        "lease-run-out-log-kept",
        "a stream resumes a log that no script wrote after the log's lease had run out",
        (
            (
                "core/lua/lib/live.lua",
                "return deadline end\n  log_close(entity)\n",
                "return deadline end\n",
            ),
            ("core/lua/live_open.lua", "do log_close(log) end", "do local _ = log end"),
            (
                "core/lua/live_open.lua",
                "if not is_live(name) then",
                "if redis.call('EXISTS', cache_key(LOG, name)) == 0 then",
            ),
            (
                "core/lua/live_read.lua",
                "local deadline = leased(name)\n",
                "local deadline = leased(name) or 0\n",
            ),
        ),
        (f"{KNOWN}::test_log_whose_lease_ran_out_is_not_resumed",),
    ),
    Bug(
        "log-begins-blank",
        "a new log does not know what the feed holds: a repeated delivery is announced as new",
        (
            (
                "core/lua/live_open.lua",
                "  call_in_chunks('SADD', cache_key(SEEN, name), "
                "redis.call('LRANGE', list, 1, -1))\n",
                "",
            ),
        ),
        (
            f"{SUBSCRIPTIONS}::test_stream_of_an_outbox_does_not_add_an_old_activity_delivered_again",
        ),
    ),
    Bug(
        "body-kept",
        "a server keeps the bodies that it has read, and sends a deleted activity to a resumed "
        "stream",
        (
            (
                "core/live_logs.py",
                "        return [_Answer(fields, frames) for fields in lists]\n",
                (
                    "        kept = self.__dict__.setdefault('kept', {})\n"
                    "        frames = kept | frames | kept\n"
                    "        kept.update(frames)\n"
                    "        return [_Answer(fields, frames) for fields in lists]\n"
                ),
            ),
        ),
        (f"{KNOWN}::test_resumed_stream_does_not_add_a_deleted_activity",),
    ),
    Bug(
        "unfollowed-route-shown",
        "a resumed stream shows an added activity with a route that the user has unfollowed since",
        (
            (
                "core/lua/live_read.lua",
                "  return follows[route] and route or ''\n",
                "  return route\n",
            ),
        ),
        (f"{LIVE}::test_resumed_stream_does_not_show_posts_of_an_author_unfollowed_since",),
    ),
    Bug(
        "one-answer-for-each-log",
        "a stream gets the entries that another stream requested, from another log position",
        (
            (
                "core/live.py",
                "        self._wanted.setdefault((cursor.log, cursor.position), []).append("
                "cursor)\n",
                (
                    "        same = [log for log in self._wanted if log[0] == cursor.log]\n"
                    "        name = same[0] if same else (cursor.log, cursor.position)\n"
                    "        self._wanted.setdefault(name, []).append(cursor)\n"
                ),
            ),
        ),
        (f"{KNOWN}::test_streams_at_different_positions_receive_what_follows_theirs",),
    ),
    Bug(
        "all-are-served-in-one-turn",
        "all streams of a read get their entries in one turn of the event loop, and other calls "
        "wait",
        (("core/live.py", "if served >= self._streams_a_turn:", "if served < 0:"),),
        (f"{KNOWN}::test_one_turn_of_the_loop_serves_few_streams",),
    ),
)
