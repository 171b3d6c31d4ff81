"""The bugs: each is one that a published feed system has, or that docs/design.md argues against."""

from dataclasses import dataclass

MODEL = "tests/model/test_model.py::test_small_caps"
PAIRS = "tests/interleavings/test_interleavings.py::test_pair"
#: Pairs of them, where a few tell.
PUBLISH_AND_PULL = f"{PAIRS}[valkey-publish_by_followee+pull]"
PUSH_AGAIN = f"{PAIRS}[valkey-push_again+work]"
OVERTAKEN = (
    "tests/interleavings/test_interleavings.py::test_an_older_edge_does_not_flip_a_newer_one"
)
NO_MORE = "tests/interleavings/test_interleavings.py::test_celebrity_no_more_and_all_at_once"
DIES = "tests/interleavings/test_interleavings.py::test_process_dies_between_any_two_calls"
JOBS = "tests/delivery/test_jobs.py"
CELEBRITIES = "tests/delivery/test_celebrities.py"
LOST = "tests/delivery/test_lost_tail.py"
PITFALLS = "tests/pitfalls"
LIVE = f"{PITFALLS}/test_live.py"
KNOWN = "tests/streams/test_known.py"
SUBSCRIPTIONS = "tests/contract/test_subscriptions.py"
STREAMS = "tests/streams/test_streams.py"
ENDED = "tests/contract/test_ended_calls.py"
BOUNDS = "tests/contract/test_bounds.py"


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
                "{redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1]), delivered",
                "{tostring((tonumber(position) or 0) + i - 1), delivered",
            ),
            (
                "core/lua/push.lua",
                "redis.call('ZSCORE', key(FOLLOWERS, author), followers[count])",
                "tostring((tonumber(position) or 0) + count)",
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
                "modes = await self._mark("
                "{(wanted[one].followee, shard) for one, shard in shards.items()})",
                "modes = {new.followee: b'' for new in wanted}",
            ),
            (
                "core/edges.py",
                "        return results\n\n    async def _make(",
                "        await self._mark("
                "{(one.followee, self._shard(one.follower)) for one in wanted})\n"
                "        return results\n\n    async def _make(",
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
        (("core/feed.py", "more = len(items) > most", "more = len(items) >= most"),),
        (MODEL,),
    ),
    Bug(
        "ghost-after-unfollow",
        "unfollowing leaves the stored feed as it is",
        (("core/lua/unfollow.lua", "  redis.call('DEL', cache_key(FEED, follower))\n", ""),),
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
                "if any_live and leased(follower)",
                "if any_live and outcome ~= PRESENT and leased(follower)",
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
    Bug(
        "job-outside-the-step",
        "a publish stores its job in a step of its own: a crash between them is never delivered",
        (
            (
                "core/lua/publish.lua",
                "if needed then job_due(job(id)) end\n",
                "",
            ),
        ),
        (DIES, JOBS),
    ),
    Bug(
        "delete-without-a-job",
        "a crash after the tombstone: live feeds never hear of the delete",
        (("core/lua/delete.lua", "job_due(job)\n", ""),),
        (DIES, f"{PITFALLS}/test_follow_delete.py"),
    ),
    Bug(
        "push-not-idempotent",
        "a push appends, whether the feed holds the id or not",
        (
            (
                "core/lua/push.lua",
                "packed_insert(cache_key(FEED, follower), id, FEED_CAP, FEED_MOST)",
                "(redis.call('RPUSHX', cache_key(FEED, follower), id) > 0 and ADDED or COLD), 1",
            ),
        ),
        (f"{PAIRS}[valkey-push_again+rebuild]", PUSH_AGAIN),
    ),
    Bug(
        "checkpoint-before-push",
        "a job's place is noted before its followers have been pushed to",
        (
            (
                "core/fanout.py",
                "        scope, last = shards, list[Arg]()\n",
                "        for shard in shards:\n"
                "            places[shard] = ''\n"
                "        scope, last = shards, list[Arg]()\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "connection-of-another-run",
        "a worker's connection goes by what it knew of the store before a loss",
        (
            (
                "core/fanout.py",
                "known = run.store.incarnations",
                "known = store.incarnations",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "spilled-is-forgotten",
        "what a publish did not reach itself is called done",
        (
            (
                "core/lua/job_spill.lua",
                "job_queue(ARGV[1], incarnation_is(ARGV[2])",
                "if true then return 1 end job_queue(ARGV[1], incarnation_is(ARGV[2])",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "silent-drop",
        "when too many jobs wait, an activity is published and not delivered",
        (
            (
                "core/lua/publish.lua",
                "then return answer('overloaded') end",
                "then needed = false end",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "nobody-takes-over",
        "the job of a dead worker stays its own",
        (
            (
                "core/lua/jobs_take.lua",
                "  for _, name in ipairs(overdue(RUNNING)) do take(i, name) end\n",
                "",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "deadline-in-the-future",
        "after the clock was set back, what was begun before waits until it is that late again",
        (
            (
                "core/lua/jobs_take.lua",
                "  if found[1] then return found end\n",
                "  if true then return found end\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "places-mixed",
        "how far pushing came is taken for how far telling came, when a flip comes between",
        (("core/jobs.py", '"tell" if source.pulled else "push"', '"push"'),),
        (PUBLISH_AND_PULL,),
    ),
    Bug(
        "pull-before-the-edges",
        "pushing to a new celebrity's followers ends before they read for themselves",
        (("core/lua/flip_begin.lua", "(pull and '>' or '<')", "(pull and 'P' or '<')"),),
        (CELEBRITIES,),
    ),
    Bug(
        "push-after-the-edges",
        "a celebrity is one no more, and its followers are flipped before it is pushed again",
        (("core/sources.py", 'self.mode[:1] == "P"', 'self.mode[:1] in ("P", "<")'),),
        (NO_MORE,),
    ),
    Bug(
        "new-follower-of-a-celebrity",
        "who follows a celebrity is given a PUSH edge",
        (
            (
                "core/lua/follow.lua",
                "local pull = celebrity:sub(1, 1) == 'P'",
                "local pull = false",
            ),
        ),
        (CELEBRITIES,),
    ),
    Bug(
        "late-shard",
        "a shard whose first follower comes after the flip has never heard of it",
        (("core/lua/follow.lua", "if mode:find('^[>P]')", "if mode:find('^[X]')"),),
        (CELEBRITIES,),
    ),
    Bug(
        "built-by-an-old-merge",
        "a rebuild settles an edge by an outbox that was read before the flip",
        (
            (
                "core/lua/build_commit.lua",
                "if celebrity == ARGV[i + 1] and celebrity:sub(1, 1) ~= 'P' then",
                "if celebrity:sub(1, 1) ~= 'P' then",
            ),
        ),
        (NO_MORE,),
    ),
    Bug(
        "celebrities-are-never-live",
        "those who follow a celebrity live hear nothing of it",
        (
            (
                "core/lua/tell.lua",
                "if redis.call('HEXISTS', key(EDGES, found[i]), author) == 1 and leased",
                "if false and leased",
            ),
        ),
        (CELEBRITIES,),
    ),
    Bug(
        "always-a-celebrity",
        "once a celebrity, always a celebrity",
        (("core/flips.py", "followers < limits.celebrity_lower", "followers < 0"),),
        (CELEBRITIES,),
    ),
    Bug(
        "done-across-a-loss",
        "a job is called done although the store has lost what was done of it",
        (
            (
                "core/lua/lib/jobs.lua",
                "return (redis.call('HGET', TALLIES, 'incarnation') or '') == expected end",
                "return expected ~= nil end",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "redo-by-the-clock",
        "what is done again after a loss is told by the time, which may be set back",
        (
            (
                "core/lua/incarnate.lua",
                "    redis.call('ZUNIONSTORE', REDO, 2, REDO, DONE, 'AGGREGATE', 'MAX')\n"
                "    redis.call('DEL', DONE)\n",
                "    local now = redis.call('TIME')\n"
                "    now = now[1] * 1000 + math.ceil(now[2] / 1000)\n"
                "    redis.call('HSET', TALLIES, 'redo', now)\n",
            ),
            (
                "core/lua/jobs_take.lua",
                "sweep(REDO, redis.call('ZRANGE', REDO, 0, most - #taken - swept - 1))",
                "sweep(DONE, redis.call('ZRANGEBYSCORE', DONE, '-inf', "
                "redis.call('HGET', TALLIES, 'redo') or '-inf', "
                "'LIMIT', 0, most - #taken - swept))",
            ),
        ),
        (f"{LOST}::test_clock_set_back_or_right_beside_a_loss",),
    ),
    Bug(
        "mark-lost",
        "an edge is made although the store has lost the mark of its shard",
        (
            (
                "core/lua/follow.lua",
                "if (redis.call('HGET', TALLIES, 'incarnation') or '') ~= ARGV[1] "
                "then return 'stale' end\n",
                "",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "heard-only-after-the-first-read",
        "a stream reads its log and then registers for wake-ups: what happens between is not told",
        (
            (
                "core/streams.py",
                "        self._live.add(reader)\n        self.wake(reader)\n",
                "        self.wake(reader)\n",
            ),
            (
                "core/streams.py",
                "        self._live.put_off(reader)\n",
                "        self._live.add(reader)\n",
            ),
        ),
        (f"{KNOWN}::test_what_happens_while_the_log_is_read_first",),
    ),
    Bug(
        "woken-while-it-reads",
        "a wake-up that comes while the log is being read is taken for answered",
        (
            (
                "core/streams.py",
                "            reader.again = reader.sent  # else the read will see it\n",
                "            pass\n",
            ),
        ),
        (f"{KNOWN}::test_what_happens_while_the_log_is_read_first",),
    ),
    Bug(
        "channel-is-the-truth",
        "when the channel is there again, nobody reads what it did not say meanwhile",
        (
            (
                "core/live.py",
                "                            self._wake_all()\n",
                "                            pass\n",
            ),
        ),
        (f"{LIVE}::test_pubsub_connection_lost_events_are_gone",),
    ),
    Bug(
        "token-of-the-end",
        "an answer carries the token of the log's end, not of the last event that it holds",
        (
            (
                "services/subscriptions.py",
                'FromString(next(messages, b"") or subject.message([]))\n',
                'FromString(next(messages, b"") or subject.message([]))\n'
                "        subject.places = await subject.open()\n"
                "        answer.resume_token = subject.token()\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_events_by_polling",),
    ),
    Bug(
        "trimmed-log-resumed",
        "a token older than the log goes on with the oldest event that is there",
        (
            (
                "core/lua/live_read.lua",
                "if not found[1] or found[1][1] ~= after then return 'lost' end",
                "if not found[1] then return 'lost' end",
            ),
        ),
        (f"{LIVE}::test_token_older_than_the_log_skips_in_silence",),
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
                "found[1][1] ~= after then",
                "found[1][1]:match('^%d+') ~= after:match('^%d+') then",
            ),
        ),
        (f"{LIVE}::test_log_that_lost_its_tail_looks_continuous",),
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
            ("core/lua/live_open.lua", "do log_close(gone) end", "do local _ = gone end"),
            (
                "core/lua/live_open.lua",
                "if not is_live(entity) then",
                "if redis.call('EXISTS', cache_key(LOG, entity)) == 0 then",
            ),
            (
                "core/lua/live_read.lua",
                "local deadline = leased(name)\n",
                "local deadline = leased(name) or 0\n",
            ),
        ),
        (f"{KNOWN}::test_log_whose_lease_ran_out",),
    ),
    Bug(
        "log-begins-blank",
        "a new log does not know what the feed holds: a repeated delivery is told as new",
        (
            (
                "core/lua/live_open.lua",
                "    redis.call('SADD', cache_key(SEEN, entity), "
                "unpack(stored, first, math.min(first + 511, #stored)))\n",
                "",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_old_activity_that_is_delivered_again_is_not_told_as_new",),
    ),
    Bug(
        "body-kept",
        "a server keeps what it has read: a deleted activity is told again to who resumes",
        (
            (
                "core/live.py",
                "        bodies = await self._bodies_of(list(added))\n",
                "        bodies = self.__dict__.setdefault('kept', {})\n"
                "        new = [one for one in added if one not in bodies]\n"
                "        bodies.update(await self._bodies_of(new))\n",
            ),
        ),
        (f"{KNOWN}::test_resumed_behind_a_deletion",),
    ),
    Bug(
        "unfollowed-source-told",
        "what was logged before an unfollow is told after it",
        (
            (
                "core/lua/live_read.lua",
                "      if not followed[route] then route = '' end\n",
                "",
            ),
        ),
        (f"{LIVE}::test_what_was_unfollowed_meanwhile_is_not_told",),
    ),
    Bug(
        "checkpoint-before-the-log",
        "a checkpoint says that nothing has happened while the log is still being read",
        (
            (
                "services/subscriptions.py",
                "if found and send.quiet and stream.all_read:",
                "if send.quiet:",
            ),
        ),
        (f"{KNOWN}::test_checkpoint_while_the_log_is_read",),
    ),
    Bug(
        "routes-of-another",
        "of items that are told together, one is given the routes of another",
        (
            (
                "services/items.py",
                "in enumerate(found, len(items)):",
                "in enumerate(found):",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_routes_of_what_is_told_together",),
    ),
    Bug(
        "loading-taken-for-lossy",
        "a store that is still loading says that it has no append-only file, and is believed",
        (
            (
                "core/store.py",
                'if info.get("loading") == "1":',
                'if info.get("loading") == "2":',
            ),
        ),
        (f"{LOST}::test_store_that_is_still_loading_has_lost_nothing",),
    ),
    Bug(
        "stops-without-a-word",
        "a stopping server ends a stream without saying where it was",
        (
            (
                "services/subscriptions.py",
                "                await send(subject.message([]))\n                raise\n",
                "                raise\n",
            ),
        ),
        (f"{KNOWN}::test_last_message_of_a_stopping_server",),
    ),
    Bug(
        "one-answer-for-each-log",
        "who asks for a log is given what another wanted of it, from another place on",
        (
            (
                "core/live.py",
                "        self._wanted.setdefault((reader.log, reader.place), []).append(reader)\n",
                "        same = [one for one in self._wanted if one[0] == reader.log]\n"
                "        name = same[0] if same else (reader.log, reader.place)\n"
                "        self._wanted.setdefault(name, []).append(reader)\n",
            ),
        ),
        (f"{KNOWN}::test_two_places_in_one_log",),
    ),
    Bug(
        "page-before-the-log",
        "a stream that begins with a page starts at the end of the log after it was read",
        (
            (
                "services/subjects.py",
                "        self.places = [page.log_tail or begun]\n",
                "        self.places = await self.open()\n",
            ),
        ),
        (STREAMS,),
    ),
    Bug(
        "all-goes-on-by-one-shard",
        "of several shards that are read at a time, the token of all goes on in one",
        (
            (
                "services/subjects.py",
                "                self.places[number] = entry.place\n",
                "                if number == told[0][0]:\n"
                "                    self.places[number] = entry.place\n",
            ),
        ),
        (STREAMS,),
    ),
    Bug(
        "many-stop-without-a-word",
        "a stopping server ends a stream of many users without saying where each was",
        (("services/gateway.py", "                await self._end()\n", ""),),
        (STREAMS,),
    ),
    Bug(
        "token-of-what-was-read",
        "of many users, a message's token is how far the log was read while others were told",
        (
            (
                "services/gateway.py",
                "        for message in subject.messages([(0, entries, events)]):\n"
                "            user.answered = True\n",
                "        subject.places = [reader.place]\n"
                "        if message := any(events) and subject.message(events):\n"
                "            user.answered = True\n",
            ),
        ),
        (f"{KNOWN}::test_token_of_a_message_is_that_of_its_last_event",),
    ),
    Bug(
        "one-user-ends-the-others",
        "a user who cannot be added because of a defect ends the stream of all",
        (
            (
                "services/gateway.py",
                "            except Exception as error:"
                "  # noqa: BLE001 (the others are not to know)\n"
                "                if self._has(user):\n",
                "            except StoreUnavailable as error:\n"
                "                if self._has(user):\n",
            ),
            (
                "services/gateway.py",
                "        finally:\n            self._adding.release()\n",
                "        except Exception as error:\n"
                "            self._failed = error\n"
                "            self._stream.wake()\n"
                "        finally:\n            self._adding.release()\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_user_who_cannot_be_added_does_not_end_the_others",),
    ),
    Bug(
        "request-about-nobody-ends-all",
        "a request without a user ends the stream of all that are there",
        (
            (
                "services/gateway.py",
                "        except InvalidRequest as error:\n",
                "        except InvalidRequest as error:\n"
                "            if not key[0]:\n"
                "                raise\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_requests_about_nobody_do_not_end_the_others",),
    ),
    Bug(
        "lost-log-answered-with-its-token",
        "who is added with a token is answered with it before the log was looked at",
        (
            (
                "services/gateway.py",
                "                    if self._has(user):\n"
                "                        self._follow(user)\n"
                "                    return\n",
                "                    first = subject.message([])\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_lost_log_is_answered_with_a_reset_at_once",),
    ),
    Bug(
        "message-as-long-as-it-comes",
        "all that was read for a stream becomes one message, whatever its bytes",
        (
            (
                "services/subjects.py",
                "if events and size + len(piece) > EVENT_BYTES:",
                "if size < 0:",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "page-as-long-as-it-comes",
        "a page holds as many items as were asked for, whatever their bytes",
        (
            (
                "core/feed.py",
                "most = min(size, fitting(len(body) for _, body in items))",
                "most = size",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "letters-as-long-as-they-come",
        "a page of dead letters is longer than clients take",
        (
            (
                "services/admin.py",
                "most = min(size, fitting(one.ByteSize() for one in letters))",
                "most = size",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "batch-as-long-as-it-comes",
        "the answer to a batch is longer than clients take",
        (("validate.py", "if request.ByteSize() > BATCH_BYTES:", "if request.ByteSize() < 0:"),),
        (BOUNDS,),
    ),
    Bug(
        "client-gone-is-a-defect",
        "what fails because the client has gone is logged as a defect, with its traceback",
        (
            (
                "interceptors/errors.py",
                "            except grpc.aio.InternalError as error:\n"
                '                log.debug("the client has gone: %s", error)\n'
                "                status = internal()\n"
                "            except grpc.aio.BaseError:",
                "            except grpc.aio.AbortError:",
            ),
            (
                "interceptors/errors.py",
                "    except grpc.aio.InternalError as error:\n        #",
                "    except ZeroDivisionError as error:\n        #",
            ),
        ),
        (ENDED,),
    ),
    Bug(
        "metadata-sent-twice",
        "a stream whose first message is cut brings its metadata again and so never ends",
        (
            (
                "services/sender.py",
                "                await self._context.send_initial_metadata(())\n",
                "",
            ),
        ),
        (ENDED,),
    ),
    Bug(
        "ends-while-the-client-writes",
        "a stream ends as its last messages are answered by requests: its client is told INTERNAL",
        (("services/gateway.py", "        await self._linger()\n", ""),),
        (ENDED,),
    ),
    Bug(
        "all-are-told-in-one-turn",
        "as many streams as were read for are told at once: nobody else is served meanwhile",
        (("core/live.py", "if not told % TOLD_A_TURN:", "if told < 0:"),),
        (f"{KNOWN}::test_few_streams_are_told_in_one_turn",),
    ),
    Bug(
        "streams-without-bound",
        "a server takes any number of streams",
        (
            (
                "services/subscriptions.py",
                "        if self._streams >= self._config.max_streams:\n",
                "        if self._streams < 0:\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_more_streams_than_may_be",),
    ),
)
