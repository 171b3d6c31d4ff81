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
RETENTION = "tests/delivery/test_retention.py"
TELLING = "tests/delivery/test_telling.py"
FAIRNESS = "tests/delivery/test_fairness.py"
CELEBRITIES = "tests/delivery/test_celebrities.py"
LOST = "tests/delivery/test_lost_tail.py"
FAILOVER = "tests/delivery/test_failover.py"
REPLACED = "tests/delivery/test_replaced_data.py"
STATES = "tests/contract/test_store_states.py"
PITFALLS = "tests/pitfalls"
TO_ONLY = f"{PITFALLS}/test_to_only.py"
LOST_REPLY = f"{PITFALLS}/test_lost_reply.py"
LIVE = f"{PITFALLS}/test_live.py"
KNOWN = "tests/streams/test_known.py"
SUBSCRIPTIONS = "tests/contract/test_subscriptions.py"
STREAMS = "tests/streams/test_streams.py"
NEIGHBOURS = "tests/contract/test_neighbours.py"
BATCHING = "tests/unit/test_batching.py"
LATEST = "tests/delivery/test_latest.py"
ADMISSION = "tests/unit/test_admission.py"
BAD_INPUT = "tests/contract/test_bad_input.py"
ENDED = "tests/contract/test_ended_calls.py"
BOUNDS = "tests/contract/test_bounds.py"
MERGE = "tests/unit/test_outbox_merge.py"
DEEP = f"{PITFALLS}/test_deep_pages.py"
DEEP_READS = "tests/interleavings/test_deep.py"
REFUSED = "tests/contract/test_refused_writes.py"
COSTS = "tests/contract/test_listing_costs.py"
AGAIN = "tests/contract/test_publishing_again.py"
FROZEN = "tests/contract/test_frozen.py"
VIEWERS = "tests/contract/test_viewers.py"


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
                "core/lua/lib/push.lua",
                "{redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1]), delivered",
                "{tostring((tonumber(position) or 0) + i - 1), delivered",
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
                "core/lua/lib/push.lua",
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
                "if not all then job_due(job(id)) end\n",
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
                "core/lua/lib/push.lua",
                "feed_insert(follower, id, author, newest)",
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
        "push-by-what-it-knew",
        "a push goes by the incarnation that its process knows: it ends leases of users "
        "who are live in a newer one",
        (
            (
                "core/lua/push.lua",
                "  use(KEYS[i])\n  results[i], budget = push(",
                "  use(KEYS[i])\n  INCARNATION = ARGV[4 + shards + i]\n"
                "  results[i], budget = push(",
            ),
            ("core/lua/push.lua", "local rest = 5 + shards", "local rest = 5 + 2 * shards"),
            (
                "core/fanout.py",
                '            *[places.get(shard, "-inf") for shard in shards],\n'
                "            *last,\n",
                '            *[places.get(shard, "-inf") for shard in shards],\n'
                "            *[store.incarnations[shard] for shard in shards],\n"
                "            *last,\n",
            ),
            (
                "core/lua/live_open.lua",
                "  log_close(entity) -- whatever may be left of one that lost its lease\n",
                "",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "log-without-a-lease",
        "a log that lost its lease locks its user out until it expires",
        (
            (
                "core/lua/live_open.lua",
                "  log_close(entity) -- whatever may be left of one that lost its lease\n",
                "",
            ),
        ),
        (f"{LOST}::test_log_without_a_lease_is_begun_anew",),
    ),
    Bug(
        "demoted-primary",
        "a node that has become a replica is read on the connections that are open",
        (
            (
                "core/store.py",
                "        if now - self._role_seen < ROLE_SECONDS:\n",
                "        if now - self._role_seen < ROLE_SECONDS * 1e9:\n",
            ),
            (
                "core/health.py",
                "                await self._store.rediscover()\n",
                '                return Condition.READY, ""\n',
            ),
        ),
        (f"{FAILOVER}::test_demoted_primary_is_not_read",),
    ),
    Bug(
        "greeting-without-role",
        "neither greeting nor READONLY tells that the node is a replica",
        (
            ("core/store.py", '        if info.get("role") != "master":\n', "        if False:\n"),
            (
                "core/store.py",
                '        if isinstance(role, Exception) or role[0] != b"master":\n',
                "        if False:\n",
            ),
            ("core/store.py", "        if of_replica:\n", "        if False:\n"),
        ),
        (f"{FAILOVER}::test_demoted_primary_is_not_read",),
    ),
    Bug(
        "sentinels-are-asked-once",
        "a hanging primary is waited for, though the Sentinels name another",
        (
            (
                "core/store.py",
                "            if connection is not None and (connection.host, connection.port) "
                "!= tuple(primary):\n",
                "            if False:\n",
            ),
            (
                "core/store.py",
                "            await connection.connect()  # which asks the Sentinels anew\n",
                "            pass\n",
            ),
        ),
        (f"{FAILOVER}::test_sentinels_are_followed",),
    ),
    Bug(
        "listener-stays",
        "the listener stays with the demoted primary, which hears the same, but late",
        (("core/live.py", "if subscribed and not receivers:", "if False:"),),
        (f"{FAILOVER}::test_address_that_is_pointed_elsewhere_is_followed",),
    ),
    Bug(
        "deaf",
        "a channel for wake-ups that stalls without breaking is not noticed",
        (
            (
                "core/live.py",
                "                except TimeoutError:\n                    return\n",
                "                except TimeoutError:\n                    pass\n",
            ),
            ("core/live.py", "if subscribed and not receivers:", "if False:"),
        ),
        (f"{PITFALLS}/test_background.py::test_stalled_channel_is_noticed",),
    ),
    Bug(
        "unsupervised",
        "a listener, clock or reader that dies stays dead",
        (
            (
                "core/tasks.py",
                '            log.exception("%s died and is started again", name)\n',
                '            log.exception("%s died and is started again", name)\n'
                "            return\n",
            ),
        ),
        ("tests/unit/test_tasks.py",),
    ),
    Bug(
        "record-is-read-once",
        "a server goes on after another version has taken its store",
        (
            (
                "core/store.py",
                "            self._adopt(record)\n        except ForeignStore:\n",
                "        except ForeignStore:\n",
            ),
        ),
        (f"{REPLACED}::test_another_schema_is_noticed",),
    ),
    Bug(
        "secret-is-read-once",
        "tokens go by the secret that the store had at the start",
        (
            (
                "tokens.py",
                "self._current = secret if callable(secret) else lambda: secret",
                "self._current = (lambda known: lambda: known)("
                "secret() if callable(secret) else secret)",
            ),
        ),
        (f"{REPLACED}::test_record_is_made_again_and_its_secret_taken",),
    ),
    Bug(
        "stale-for-good",
        "an edge that is refused as stale does not make its server look at the store again",
        (
            ("core/edges.py", "            await self._store.greet_again()\n", ""),
            ("core/store.py", "            if member.eras != known:\n", "            if False:\n"),
        ),
        (f"{REPLACED}::test_all_is_lost_and_all_goes_on",),
    ),
    Bug(
        "era-is-a-count",
        "what tells one state of the store from another comes again after a second loss",
        (
            (
                "core/lua/incarnate.lua",
                "  if lost or not era then era = ARGV[3] end\n",
                "  if lost or not era then era = tostring((tonumber(era or 0)) + 1) end\n",
            ),
        ),
        (f"{LOST}::test_second_loss_is_told_from_the_first",),
    ),
    Bug(
        "jobs-by-what-their-process-knew",
        "a worker that has not heard of a loss takes a job again and again until it is set aside",
        (
            (
                "core/jobs.py",
                "_taken(fields, worker, shard, era.decode())",
                "_taken(fields, worker, shard, store.eras[shard])",
            ),
        ),
        (f"{LOST}::test_push_by_who_does_not_know_of_a_loss_reaches_live_users",),
    ),
    Bug(
        "lost-job-waits-for-its-lease",
        "what a server began before it heard of a loss waits until its lease has run out",
        (
            (
                "core/fanout.py",
                '            await self._jobs.spill(job, incarnation, Progress(), "queued")\n',
                "",
            ),
        ),
        (f"{REPLACED}::test_delivery_after_all_is_lost_waits_for_no_lease",),
    ),
    Bug(
        "own-clock",
        "ids come from the server's own clock, which may be a day ahead",
        (
            (
                "core/activities.py",
                "        now = self._store.clock.now_ms()\n",
                "        now = time.time_ns() // 1_000_000\n",
            ),
            (
                "core/lua/publish.lua",
                "if off > SKEW_MS or fresh and off < -SKEW_MS then "
                "proposed = moved_to(clock_ms()) end\n",
                "",
            ),
        ),
        (f"{PITFALLS}/test_clock.py",),
    ),
    Bug(
        "clock-is-believed",
        "the store takes any time for now",
        (
            (
                "core/lua/publish.lua",
                "if off > SKEW_MS or fresh and off < -SKEW_MS then "
                "proposed = moved_to(clock_ms()) end\n",
                "",
            ),
        ),
        (f"{PITFALLS}/test_clock.py::test_what_a_server_believes_is_checked",),
    ),
    Bug(
        "always-healthy",
        "health says SERVING whatever becomes of the store",
        (
            (
                "server.py",
                "    serves = condition is Condition.READY or",
                "    serves = True or",
            ),
        ),
        (STATES,),
    ),
    Bug(
        "evicts-what-expires",
        "a store is taken that evicts request ids and tombstones",
        (
            (
                "core/fitness.py",
                '    if policy != "noeviction":\n',
                '    if str(policy).startswith("allkeys"):\n',
            ),
        ),
        ("tests/contract/test_store_fitness.py::test_evicting_store_is_refused",),
    ),
    Bug(
        "cluster-of-several",
        "a node of a cluster of several is taken",
        (
            (
                "core/fitness.py",
                '    if not whole or int(info.get("cluster_size", 0)) != 1:\n',
                "    if False:\n",
            ),
        ),
        ("tests/contract/test_store_fitness.py::test_cluster_of_several_nodes_is_refused",),
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
                "  for _, name in ipairs(overdue(RUNNING)) do take_over(name) end\n",
                "",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "low-shards-first",
        "workers take jobs from the first shards until they have enough",
        (
            (
                "core/lua/jobs_take.lua",
                "    if #taken < most and take(i) then next_turns[#next_turns + 1] = i end\n",
                "    while #taken < most and take(i) do end\n",
            ),
            ("core/worker.py", "self._first = (taken[-1].shard + 1) % count", "self._first = 0"),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "authors-wait-for-each-other",
        "the jobs of a shard are taken author after author",
        (
            (
                "core/lua/jobs_take.lua",
                "        redis.call('LMOVE', AUTHORS, AUTHORS, 'LEFT', 'RIGHT')\n      else\n",
                "        redis.call('EXISTS', AUTHORS)\n      else\n",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "author-holds-all-slots",
        "all jobs that a process has at a time may be of one author",
        (("core/worker.py", "JOBS_OF_AN_AUTHOR = 64, 8", "JOBS_OF_AN_AUTHOR = 64, 64"),),
        (FAIRNESS,),
    ),
    Bug(
        "calls-first-come-first-served",
        "connections are lent in the order of arrival: many jobs of one author hold up the others",
        (
            (
                "core/turns.py",
                "self._waiting.setdefault(author, deque())",
                "self._waiting.setdefault('', deque())",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "backlog-starves-takeover",
        "jobs of dead processes are looked for only while there is room for more jobs",
        (
            (
                "core/lua/jobs_take.lua",
                "  sweep(DUE, overdue(DUE))\n",
                "  if redis.call('EXISTS', TAG .. 'A') == 1 then most = most - 4 end\n"
                "  if most > 0 then sweep(DUE, overdue(DUE)) end\n",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "author-fills-the-queue",
        "the backlog of one author refuses the activities of all others of the shard",
        (
            (
                "core/lua/publish.lua",
                "if 2 * open >= MAX_JOBS and redis.call('LLEN', key(WAITING, actor)) "
                ">= MAX_JOBS - open then",
                "if redis.call('EXISTS', key(WAITING, actor)) and open >= MAX_JOBS then",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "waiting-is-failing",
        "each time a job is taken counts as a failure, though the store was away",
        (
            (
                "core/lua/jobs_take.lua",
                "      redis.call('HSET', record, 'worker', worker)\n",
                "      redis.call('HSET', record, 'worker', worker)\n"
                "      redis.call('HINCRBY', record, 'tries', 1)\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "cut-off-is-dead",
        "a worker that was cut off from the store counts as one that its job has killed",
        (
            (
                "core/lua/job_leave.lua",
                "  if tonumber(tries) > 0 then redis.call('HINCRBY', record, 'tries', -1) end\n",
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
        "carried-by-everybody",
        "every process carries the same notes of what outboxes let go",
        (
            (
                "core/lua/let_go_take.lua",
                "if not carrier or ours or carrier == name then",
                "if true then",
            ),
        ),
        (RETENTION,),
    ),
    Bug(
        "carried-one-by-one",
        "notes of what outboxes let go are carried one by one",
        (("core/retention.py", "NOTES_A_CALL = 200", "NOTES_A_CALL = 1"),),
        (RETENTION,),
    ),
    Bug(
        "notes-dropped-twice",
        "a call that is repeated drops notes that nobody has carried",
        (
            (
                "core/lua/let_go_take.lua",
                "local ours = carrier and carrier == ARGV[2 + 2 * i]",
                "local ours = carrier and ARGV[2 + 2 * i] ~= ''",
            ),
        ),
        (RETENTION,),
    ),
    Bug(
        "delivered-to-nobody",
        "what no outbox can hold is published, and said to be delivered",
        (
            ("core/activities.py", 'own = "-"', 'own = "0"'),
            ("core/activities.py", "if not delivery.held:", "if delivery is None:"),
        ),
        (TO_ONLY,),
    ),
    Bug(
        "id-used-again",
        "when its tombstone has expired, the id of an activity to others is given out again",
        (("core/lua/publish.lua", "if id <= retired_of(actor)[2] then", "if id == '' then"),),
        (TO_ONLY,),
    ),
    Bug(
        "deletion-told-to-strangers",
        "the followers of an actor are told the ids of what was not for them",
        (("core/lua/delete.lua", "ARGV[6] == '1' and actor or", "actor or"),),
        (TO_ONLY,),
    ),
    Bug(
        "published-already-by-itself",
        "a publish whose reply was lost says that somebody published it before",
        (("core/lua/publish.lua", "known:sub(20) == call and 'published' or", "false or"),),
        (LOST_REPLY,),
    ),
    Bug(
        "edge-was-not-there",
        "an unfollow whose reply was lost says that there was nothing to end",
        (
            (
                "core/requests.py",
                'return keys.request(rpc, entity, "\\0" + secrets.token_hex(8)), REPLAY_SECONDS',
                'return "", REPLAY_SECONDS',
            ),
        ),
        (LOST_REPLY,),
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
                "local function tell_one(entity)\n",
                "local function tell_one(entity)\n  if true then return end\n",
            ),
        ),
        (CELEBRITIES,),
    ),
    Bug(
        "telling-by-all-who-are-live",
        "a delete looks at every live entity of a shard, however few follow the author",
        (
            (
                "core/lua/tell.lua",
                "side = followers_count(author) < live and 'w' or 'v'",
                "side = 'v'",
            ),
        ),
        (TELLING,),
    ),
    Bug(
        "telling-by-all-followers",
        "telling a celebrity's followers looks at every follower, however few are live",
        (
            (
                "core/lua/tell.lua",
                "side = followers_count(author) < live and 'w' or 'v'",
                "side = 'w'",
            ),
        ),
        (TELLING,),
    ),
    Bug(
        "telling-changes-sides",
        "which side telling goes through is chosen anew for each chunk",
        (
            ("core/lua/tell.lua", "if side == '-' then", "if true then"),
            (
                "core/lua/tell.lua",
                "    position = side .. position\n",
                "    position = side .. (position == '-inf' and position or position:sub(2))\n",
            ),
        ),
        (TELLING,),
    ),
    Bug(
        "lease-moves-back",
        "a lease that is renewed after the clock was set back is passed over",
        (("core/lua/lib/live.lua", "'ZADD', LIVE, 'GT', string", "'ZADD', LIVE, string"),),
        (TELLING,),
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
                "return (redis.call('HGET', TALLIES, 'era') or '') == expected end",
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
                "sweep(REDO, redis.call('ZRANGE', REDO, 0, SWEEP - 1))",
                "sweep(DONE, redis.call('ZRANGEBYSCORE', DONE, '-inf', "
                "redis.call('HGET', TALLIES, 'redo') or '-inf', "
                "'LIMIT', 0, SWEEP))",
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
                "if (redis.call('HGET', TALLIES, 'era') or '') ~= ARGV[1] "
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
                "                    self._wake_all()\n",
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
                'FromString(next(messages, b"") or subject.heartbeat())\n',
                'FromString(next(messages, b"") or subject.heartbeat())\n'
                "        subject.places = await subject.open()\n"
                "        first.resume_token = subject.token()\n",
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
                "        return [_Answer(flat, bodies) for flat in flats]\n",
                "        kept = self.__dict__.setdefault('kept', {})\n"
                "        bodies = kept | bodies | kept\n"
                "        kept.update(bodies)\n"
                "        return [_Answer(flat, bodies) for flat in flats]\n",
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
                "followed.intersection(unsure[activity_id])",
                "followed.intersection(next(iter(unsure.values())))",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_routes_of_what_is_told_together",),
    ),
    Bug(
        "time-left-out",
        "an activity that is published to others is answered without its time",
        (("wire.py", "if frame[1] & HAS_TIME:", "if frame[1] & (HAS_TIME | HAS_TO):"),),
        (
            "tests/unit/test_wire.py::test_a_stored_activity_is_shown_with_all_that_the_service_gives",
        ),
    ),
    Bug(
        "long-external-name",
        "the name of an external id record is cut wrongly if a part of it has 128 bytes or more",
        (("core/lua/lib/outbox.lua", "last - first < 130", "last - first < 300"),),
        ("tests/pitfalls/test_publish.py::test_external_ids_of_what_was_trimmed_stay_for_ever",),
    ),
    Bug(
        "bucket-guessed",
        "the count of buckets of one shard is taken for that of another",
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
        "name-in-a-text-replaced",
        "a word in a text of a script is replaced by what the same word stands for elsewhere",
        (
            (
                "core/scripts.py",
                r"""r"--.*|'[^']*'|\b[A-Z_]+\b")""",
                r"""r"--.*|\b[A-Z_]+\b")""",
            ),
        ),
        ("tests/unit/test_scripts.py::test_texts_and_comments_stay_as_they_are",),
    ),
    Bug(
        "stops-without-a-word",
        "a stopping server ends a stream without saying where it was",
        (
            (
                "services/subscriptions.py",
                "                    await send(subject.heartbeat())\n                raise\n",
                "                    pass\n                raise\n",
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
                "        for message in subject.messages([(0, entries, events)]):\n",
                "        subject.places = [reader.place]\n"
                "        told = b''.join(events)\n"
                "        for message in [subject._message(subject.layout.events, told)]:\n",
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
                "                if self._has(subscription):\n",
                "            except StoreUnavailable as error:\n"
                "                if self._has(subscription):\n",
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
                "                    if self._has(subscription):\n"
                "                        self._follow(subscription)\n"
                "                    return\n",
                "                    first = subject.beginning(pb.SUBSCRIPTION_START_RESUMED)\n",
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
        (("validate.py", "if request.size > BATCH_BYTES:", "if request.size < 0:"),),
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
        (("core/live.py", "if told >= self._a_turn:", "if told < 0:"),),
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
    Bug(
        "first-come-first-served",
        "commands wait in one queue: one caller's hundreds stand before another's single one",
        (("core/batching.py", "        caller = CALLER.get()\n", "        caller = None\n"),),
        (f"{BATCHING}::test_one_command_does_not_wait_for_hundreds_of_another_caller",),
    ),
    Bug(
        "long-batches-beside-others",
        "who has much to send fills whole batches while others wait",
        (("core/batching.py", "BATCH_COST - SHARED_COST if shared else 0", "0"),),
        (f"{BATCHING}::test_batches_are_short_while_somebody_is_beside_who_has_much_to_send",),
    ),
    Bug(
        "short-batches-for-all",
        "many callers with little to send take turns as if each had much",
        (("core/batching.py", "left > (0 if self._newcomers else keep)", "left > keep"),),
        (f"{BATCHING}::test_many_callers_with_little_to_send_share_a_batch",),
    ),
    Bug(
        "batch-waits-for-what-others-do",
        "a batch is collected for some turns of the loop, however long they take",
        (
            (
                "core/batching.py",
                "            if len(self._queues) > 1 and ",
                "            if False and ",
            ),
        ),
        (f"{BATCHING}::test_a_batch_does_not_wait_for_what_others_do",),
    ),
    Bug(
        "servers-without-one-order",
        "activities of now are ordered by the clocks of their servers",
        (("core/lua/publish.lua", "  id = above(latest)\n", "  id = proposed\n"),),
        (f"{LATEST}::test_activities_of_several_servers_have_one_order",),
    ),
    Bug(
        "latest-pins-all",
        "a store's clock that was set back pins all activities above the greatest id",
        (
            (
                "core/lua/publish.lua",
                " and math.floor(tonumber(latest) / 2097152) <= clock_ms() + NEAR_MS then",
                " then",
            ),
        ),
        (f"{LATEST}::test_latest_far_ahead_pins_nothing",),
    ),
    *(
        Bug(
            f"{script}-brings-what-is-not-known",
            "an id of a lost history is in a list, and what is published next is put behind it",
            ((f"core/lua/{script}.lua", call, ""),),
            (f"{LATEST}::test_what_comes_from_a_lost_history_is_known",),
        )
        for script, call in (
            ("outbox_add", "latest_raise(id)\n"),
            ("push", "latest_raise(id)\n"),
            ("settle", "  latest_raise(ARGV[#ARGV])\n"),
        )
    ),
    Bug(
        "broken-feed-fails-the-step",
        "a broken feed ends the step that publishes, with the activity half published",
        (
            (
                "core/lua/publish.lua",
                "pcall(push_all, id, shards, any_live, newest)",
                "true, push_all(id, shards, any_live, newest)",
            ),
        ),
        (f"{LATEST}::test_broken_feed_leaves_the_rest_to_a_job",),
    ),
    Bug(
        "step-counts-nobody",
        "who has become a celebrity is not counted where the step that publishes is enough",
        (
            (
                "core/lua/publish.lua",
                "(CELEBRITY_THRESHOLD == 0 or seen < CELEBRITY_THRESHOLD)",
                "true",
            ),
        ),
        (f"{LATEST}::test_step_leaves_who_may_be_a_celebrity_to_be_counted",),
    ),
    Bug(
        "audience-by-the-shards-of-a-call",
        "a push to many followers in few shards is taken for a cheap one",
        (
            (
                "core/fanout.py",
                "        return most if followers is None else min(most, ",
                "        return 10 * shards if followers is None else min(most, ",
            ),
        ),
        (f"{BATCHING}::test_a_push_costs_what_it_may_reach_until_its_audience_is_known",),
    ),
    Bug(
        "batches-without-a-cost",
        "a batch holds any number of costly commands, and everybody else waits for their end",
        (
            (
                "core/batching.py",
                "                left -= waiting[2]\n",
                "",
            ),
        ),
        (f"{BATCHING}::test_a_batch_is_bounded_by_its_cost",),
    ),
    Bug(
        "cancelled-commands-leave",
        "what nobody waits for any more is asked of the store all the same",
        (
            (
                "core/batching.py",
                "                if waiting[1].done():",
                "                if False:",
            ),
        ),
        (f"{BATCHING}::test_a_cancelled_command_does_not_leave",),
    ),
    Bug(
        "batch-all-at-once",
        "all entries of a batch are published at once",
        (
            (
                "services/activities.py",
                "await in_turns(publish_next, ENTRIES_AT_ONCE)",
                "await in_turns(publish_next, len(batch.entries))",
            ),
        ),
        (f"{NEIGHBOURS}::test_a_batch_is_published_a_few_entries_at_a_time",),
    ),
    Bug(
        "batch-in-one-go",
        "entries of batches are checked without the event loop going round between them",
        (("batches.py", "            await asyncio.sleep(0)\n", "            pass\n"),),
        (f"{NEIGHBOURS}::test_entries_are_checked_between_other_work",),
    ),
    Bug(
        "callers-without-a-share",
        "a connection may have any number of calls under way",
        (
            (
                "admission.py",
                "return not self.work or self.work + turn.weight <= self.share",
                "return True",
            ),
        ),
        (f"{NEIGHBOURS}::test_callers_with_one_connection_each_have_a_share",),
    ),
    Bug(
        "waiting-takes-places",
        "a call that waits for a delivery keeps its place among its caller's",
        (("admission.py", "    if turn is not None:\n        turn.rest()", "    pass"),),
        (f"{NEIGHBOURS}::test_who_waits_for_deliveries_does_not_take_places",),
    ),
    Bug(
        "each-waits-for-itself",
        "each job that is waited for is looked at by a call of its own",
        (("core/watch.py", "256, 64", "256, 1"),),
        (f"{NEIGHBOURS}::test_all_who_wait_for_deliveries_share_one_look",),
    ),
    Bug(
        "waiting-fails-with-the-store",
        "a store that does not answer for a while fails those who wait for deliveries",
        (
            (
                "core/watch.py",
                "            except StoreUnavailable:\n                pass",
                "            except StoreUnavailable as away:\n"
                "                for watched in self._watched.values():\n"
                "                    watched.ended.set_exception(away)",
            ),
        ),
        (f"{NEIGHBOURS}::test_a_store_that_is_away_does_not_fail_who_waits",),
    ),
    Bug(
        "refused-without-pushback",
        "gRPC's own retries are not told when to come again",
        (("status.py", 'PUSHBACK_KEY = "grpc-retry-pushback-ms"', 'PUSHBACK_KEY = "pushback"'),),
        (f"{NEIGHBOURS}::test_refused_calls_say_when_to_come_again",),
    ),
    Bug(
        "what-waits-is-cancelled",
        "a stopping server cancels the calls that it has not begun",
        (
            ("server.py", "            self._admission.drain()\n", ""),
            ("server.py", "        server.exits = True\n", ""),
        ),
        (
            f"{NEIGHBOURS}::test_a_stopping_server_answers_what_it_has_not_begun",
            f"{NEIGHBOURS}::test_restarts_show_clients_unavailable_and_nothing_else",
        ),
    ),
    Bug(
        "exits-by-grpc",
        "a stopping server stops gRPC: calls that arrive meanwhile end with CANCELLED",
        (("server.py", "        server.exits = True\n", ""),),
        (f"{NEIGHBOURS}::test_restarts_show_clients_unavailable_and_nothing_else",),
    ),
    Bug(
        "not-a-number",
        "extra may have numbers that JSON cannot write",
        (
            (
                "validate.py",
                "    elif _MAY_BE_NO_NUMBER.search(serialised):",
                "    elif False:",
            ),
        ),
        (f"{BAD_INPUT}::test_number_that_json_cannot_write_is_refused",),
    ),
    Bug(
        "merge-all-at-once",
        "a wide read has all its calls under way at once: others wait for hundreds of them",
        (
            (
                "core/outbox.py",
                "in_lanes(lane, min(CALLS_A_MERGE, calls))",
                "in_lanes(lane, calls)",
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
                "core/feed.py",
                "segment = await self._segment(user, at, wanted)",
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
        (("core/lua/deep_commit.lua", "    late[#late + 1] = id\n", ""),),
        (DEEP_READS,),
    ),
    Bug(
        "deep-segment-outlives-a-settled-edge",
        "deep pages lack what somebody did who is followed since",
        (("core/lua/settle.lua", "redis.call('DEL', cache_key(DEEP, follower))\n", ""),),
        (f"{DEEP}::test_deep_page_outlives_a_change",),
    ),
    Bug(
        "deep-segment-outlives-a-cold-feed",
        "what was delivered while the feed was cold is not in its deep segment",
        (("core/lua/build_begin.lua", "  redis.call('DEL', cache_key(DEEP, ARGV[1]))\n", ""),),
        (f"{DEEP}::test_deep_page_outlives_a_change",),
    ),
    Bug(
        "deep-segment-outlives-a-flip",
        "a deep segment keeps what the outbox of a celebrity has let go",
        (
            (
                "core/lua/flip.lua",
                "if redis.call('SADD', pulled, entity) == 1 then "
                "redis.call('DEL', cache_key(DEEP, follower)) end",
                "redis.call('SADD', pulled, entity)",
            ),
        ),
        (f"{DEEP}::test_deep_page_shows_what_a_celebritys_outbox_has_let_go",),
    ),
    Bug(
        "deep-segment-shows-what-was-let-go",
        "a deep segment is relied on however much was delivered since it was built",
        (
            (
                "core/lua/lib/deep.lua",
                "  if spent + redis.call('LLEN', cache_key(FEED, user)) - length"
                " > tonumber(allowance) then return nil end\n",
                "",
            ),
            ("core/lua/lib/feed.lua", "    if head then deep_spend(deep, head, trimmed) end\n", ""),
        ),
        (f"{DEEP}::test_deep_page_shows_what_outboxes_have_let_go",),
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
                "local log_end = lease and lease * 1000 > clock_us() and log_tail(user) or ''",
                "local log_end = lease and is_live(user) and log_tail(user) or ''",
            ),
        ),
        (REFUSED,),
    ),
    Bug(
        "cold-read-needs-a-write",
        "a cold feed cannot be read while the store refuses writes",
        (
            (
                "core/feed.py",
                "            return -1  # if the store is gone, ",
                "            raise  # ",
            ),
        ),
        (REFUSED,),
    ),
    Bug(
        "following-read-for-each-page",
        "each page of what somebody follows reads all of it",
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
        "a list of edges that is kept is shown though an edge has changed since",
        (("core/following.py", "                    and kept.generation == generation\n", ""),),
        (COSTS,),
    ),
    Bug(
        "following-kept-over-a-loss",
        "a list of edges that the store has lost is shown when its generation comes back",
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
        "a page of followers reads a whole page in each shard",
        (
            (
                "core/edges.py",
                "chunk = min(most, 4 + 2 * most // max(1, len(shards)))",
                "chunk = most",
            ),
        ),
        (COSTS,),
    ),
    Bug(
        "time-makes-another-activity",
        "who sends back what was answered is told that it is another activity",
        (
            (
                "wire.py",
                'return Framed(b"%b%b%b%b" % (header, received, compared, time), compared)',
                'return Framed(b"%b%b%b%b" % (header, received, compared, time), compared + time)',
            ),
        ),
        (f"{AGAIN}::test_what_was_answered_may_be_sent_back",),
    ),
    Bug(
        "external-id-for-good",
        "the external id of a deleted activity is kept for ever",
        (
            (
                "core/lua/delete.lua",
                "redis.call('PEXPIRE', key(EXTERNAL, external), RETIRED_MS)",
                "redis.call('EXISTS', key(EXTERNAL, external))",
            ),
        ),
        (f"{AGAIN}::test_external_ids_end",),
    ),
    Bug(
        "removed-without-a-name",
        "whoever keeps an index by external ids is told only the id of what was deleted",
        (
            (
                "core/lua/retract.lua",
                "log_removed(OUTBOX_LOG .. entity, id, about)",
                "log_removed(OUTBOX_LOG .. entity, id)",
            ),
        ),
        (f"{AGAIN}::test_removed_says_whose_it_was",),
    ),
    Bug(
        "unknown-view-shown-flat",
        "a view that the server does not know is taken for the flat one",
        (
            (
                "validate.py",
                "if len(UnknownFieldSet(view)) or len(UnknownFieldSet(view.flat)):",
                "if False:",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_views_that_a_server_does_not_know_are_refused",),
    ),
    Bug(
        "request-without-rules-let-through",
        "a new method's request is not checked, and nobody notices",
        (
            (
                "validate.py",
                '            if request.DESCRIPTOR.file.package.startswith("activityfeed."):\n',
                "            if False:\n",
            ),
        ),
        (f"{FROZEN}::test_a_request_without_rules_is_not_let_through",),
    ),
    Bug(
        "viewer-not-asked",
        "a feed shows a viewer what the viewer may not see",
        (
            (
                "services/items.py",
                "seen = await engine.viewers.activities(query.viewer, found)",
                "seen = found",
            ),
        ),
        (f"{VIEWERS}::test_reads_go_by_the_viewer",),
    ),
    Bug(
        "resumed-before-it-is-known",
        "a stream says that nothing is missing before its log was read",
        (
            (
                "services/subscriptions.py",
                "        if not resume_token:\n"
                "            await send(subject.beginning(pb.SUBSCRIPTION_START_NEW))\n",
                "        await send(subject.beginning(pb.SUBSCRIPTION_START_RESUMED))\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_token_that_has_expired_is_never_resumed",),
    ),
    Bug(
        "outbox-log-read-after-the-outbox",
        "a page of an outbox has a token behind what happened while it was read",
        (
            (
                "core/feed.py",
                "            return Slice(found.ids, found.exhausted, found.floor, log_tail)",
                "            log_tail = await self._log_tail(log)\n"
                "            return Slice(found.ids, found.exhausted, found.floor, log_tail)",
            ),
        ),
        (f"{AGAIN}::test_outbox_page_loses_nothing_that_happens_meanwhile",),
    ),
)
