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
        "told-twice",
        "a repeated delivery is told to the live log again",
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
        "a log that lost its lease locks its user out until it expires",
        (
            (
                "core/lua/live_open.lua",
                "  log_close(name) -- what a log that lost its lease may have left behind\n",
                "",
            ),
        ),
        (f"{LOST}::test_log_without_a_lease_is_replaced",),
    ),
    Bug(
        "listener-stays",
        "the listener stays with the demoted primary, which hears the same, but late",
        (("core/wakeups.py", "if subscribed and not receivers:", "if False:"),),
        (f"{FAILOVER}::test_server_follows_its_address_to_a_new_primary",),
    ),
    Bug(
        "deaf",
        "a channel for wake-ups that stalls without breaking is not noticed",
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
        "those who follow a celebrity live hear nothing of it",
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
        "telling-by-all-who-are-live",
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
        "telling-by-all-followers",
        "telling a celebrity's followers looks at every follower, however few are live",
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
        "telling-changes-sides",
        "which side telling goes through is chosen anew for each chunk",
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
        "a lease that is renewed after the clock was set back is passed over",
        (("core/lua/lib/live.lua", "'ZADD', LIVE, 'GT', string", "'ZADD', LIVE, string"),),
        (ANNOUNCING,),
    ),
    Bug(
        "heard-only-after-the-first-read",
        "a stream reads its log and then registers for wake-ups: what happens between is not told",
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
        "a wake-up that comes while the log is being read is taken for answered",
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
        "when the channel is there again, nobody reads what it did not say meanwhile",
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
        "a token older than the log goes on with the oldest event that is there",
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
        "a place is only a number: a log that was made anew, or lost its tail, has it too",
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
        "nobody wrote the log after its lease, and it is resumed all the same",
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
        "a new log does not know what the feed holds: a repeated delivery is told as new",
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
        "a server keeps what it has read: a deleted activity is told again to who resumes",
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
        "unfollowed-source-told",
        "what was logged before an unfollow is told after it",
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
        "who asks for a log is given what another wanted of it, from another place on",
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
        "all-are-told-in-one-turn",
        "as many streams as were read for are told at once: nobody else is served meanwhile",
        (("core/live.py", "if served >= self._streams_a_turn:", "if served < 0:"),),
        (f"{KNOWN}::test_one_turn_of_the_loop_serves_few_streams",),
    ),
)
