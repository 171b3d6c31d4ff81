"""Known bugs of fan-out: jobs, workers, pushes and flips."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    BATCHING,
    CELEBRITIES,
    DEEP,
    FAIRNESS,
    JOBS,
    LOST,
    NEIGHBOURS,
    OVERTAKEN,
    PAIRS,
    PUBLISH_AND_PULL,
    PUSH_AGAIN,
    REPLACED,
)

BUGS = (
    Bug(
        "flip-without-epoch",
        "settling flips an edge to PUSH by an outbox that was read for an earlier edge",
        (
            (
                "core/lua/settle.lua",
                "if redis.call('HGET', key(EDGES, follower), followee) ~= position "
                "then return 0 end\n",
                "",
            ),
        ),
        (OVERTAKEN,),
    ),
    Bug(
        "announced-only-when-new-in-the-feed",
        "a push announces only ids that the warm feed lacks: after a rebuild the log lacks events",
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
        "push-not-idempotent",
        "a push appends the id although the feed holds the id already",
        (
            (
                "core/lua/lib/push.lua",
                "feed_insert(follower, id, author, is_newest)",
                "(redis.call('RPUSHX', cache_key(FEED, follower), id) > 0 and ADDED or COLD), 1",
            ),
        ),
        (f"{PAIRS}[valkey-push_again+rebuild]", PUSH_AGAIN),
    ),
    Bug(
        "checkpoint-before-push",
        "a job notes its resume positions before it pushes to the followers",
        (
            (
                "core/fanout.py",
                "        script_shards, to_end_job = shards, list[Arg]()\n",
                (
                    "        for shard in shards:\n"
                    "            positions[shard] = ''\n"
                    "        script_shards, to_end_job = shards, list[Arg]()\n"
                ),
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "push-by-what-it-knew",
        "a push uses the incarnation that its process knows, and ends the leases of users who are "
        "live in a newer incarnation",
        (
            (
                "core/lua/push.lua",
                "  use(tag)\n  results[i], budget = push(",
                "  use(tag)\n  INCARNATION = ARGV[POSITIONS + shards + i]\n"
                "  results[i], budget = push(",
            ),
            (
                "core/lua/push.lua",
                "local JOB_FROM = POSITIONS + shards + 1",
                "local JOB_FROM = POSITIONS + 2 * shards + 1",
            ),
            (
                "core/fanout.py",
                (
                    "            *[positions.get(shard, BEGINNING) for shard in shards],\n"
                    "            *to_end_job,\n"
                ),
                (
                    "            *[positions.get(shard, BEGINNING) for shard in shards],\n"
                    "            *[store.incarnations[shard] for shard in shards],\n"
                    "            *to_end_job,\n"
                ),
            ),
            (
                "core/lua/live_open.lua",
                "  log_close(name) -- remove the remains of a log that lost its lease\n",
                "",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "jobs-by-what-their-process-knew",
        "a worker that does not know of a loss takes a job again and again until the job is set "
        "aside",
        (
            (
                "core/jobs.py",
                "_taken(fields, worker, shard, era.decode())",
                "_taken(fields, worker, shard, store.eras[shard])",
            ),
        ),
        (f"{LOST}::test_push_by_a_process_unaware_of_a_loss_reaches_live_users",),
    ),
    Bug(
        "lost-job-waits-for-its-lease",
        "a job that a server began before it knew of a loss waits until the job's lease has run "
        "out",
        (
            (
                "core/fanout.py",
                '            await self._jobs.spill(job, era, Progress(), "queued")\n',
                "",
            ),
        ),
        (f"{REPLACED}::test_delivery_after_a_flush_does_not_wait_for_a_lease",),
    ),
    Bug(
        "spilled-is-forgotten",
        "a publish drops the work that it did not do itself, instead of handing it to the workers",
        (
            (
                "core/lua/job_spill.lua",
                "if not era_is(era) then positions = '' end\n",
                "if true then return 1 end\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "nobody-takes-over",
        "no worker takes over the jobs of a dead worker",
        (
            (
                "core/lua/jobs_take.lua",
                "  for _, name in ipairs(overdue(RUNNING)) do take_over(name, i) end\n",
                "",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "low-shards-first",
        "workers take jobs from the first shards until they have enough, and the last shards wait",
        (
            (
                "core/lua/jobs_take.lua",
                "    if #taken < max_jobs and take(i) then next_turns[#next_turns + 1] = i end\n",
                "    while #taken < max_jobs and take(i) do end\n",
            ),
            (
                "core/worker.py",
                "self._first_shard = (taken_jobs[-1].shard + 1) % count",
                "self._first_shard = 0",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "authors-wait-for-each-other",
        "workers take all jobs of one author before the jobs of the next author",
        (
            (
                "core/lua/jobs_take.lua",
                "    redis.call('LMOVE', AUTHORS, AUTHORS, 'LEFT', 'RIGHT')\n  else\n",
                "    redis.call('EXISTS', AUTHORS)\n  else\n",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "author-holds-all-slots",
        "one author's jobs may fill all job slots of a process",
        (("core/worker.py", "JOBS_OF_AN_AUTHOR = 64, 8", "JOBS_OF_AN_AUTHOR = 64, 64"),),
        (FAIRNESS,),
    ),
    Bug(
        "calls-first-come-first-served",
        "connections are lent in the order of arrival: one author's many jobs delay other authors",
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
        "workers look for the jobs of dead processes only while they have room for more jobs",
        (
            (
                "core/lua/jobs_take.lua",
                "  sweep(DUE, overdue(DUE))\n",
                "  if redis.call('EXISTS', TAG .. 'A') == 1 then max_jobs = max_jobs - 4 end\n"
                "  if max_jobs > 0 then sweep(DUE, overdue(DUE)) end\n",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "waiting-is-failing",
        "each time that a worker takes a job counts as a failed attempt, though only the store "
        "was away",
        (
            (
                "core/lua/jobs_take.lua",
                "  redis.call('HSET', record, 'worker', worker)\n",
                "  redis.call('HSET', record, 'worker', worker)\n"
                "  redis.call('HINCRBY', record, 'tries', 1)\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "cut-off-is-dead",
        "a worker that was cut off from the store counts as a worker that its job has killed",
        (
            (
                "core/lua/job_leave.lua",
                "  if tonumber(attempts) > 0 then redis.call('HINCRBY', record, 'tries', -1) end\n",
                "",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "deadline-in-the-future",
        "after the clock was set back, old jobs wait until the clock reaches their deadlines again",
        (
            (
                "core/lua/jobs_take.lua",
                "  if members[1] then return members end\n",
                "  if true then return members end\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "push-and-announce-positions-mixed",
        "when a flip comes between, the position of a push counts as the position of announcements",
        (("core/job.py", '"tell" if source.pulled else "push"', '"push"'),),
        (PUBLISH_AND_PULL,),
    ),
    Bug(
        "pull-before-the-edges",
        "pushes to a new celebrity's followers end before the followers read the outbox themselves",
        (("core/lua/flip_begin.lua", "is_pull and MODE_TO_PULL or", "is_pull and MODE_PULL or"),),
        (CELEBRITIES,),
    ),
    Bug(
        "always-a-celebrity",
        "an entity stays a celebrity although it has lost most of its followers",
        (("core/flips.py", "followers < limits.celebrity_lower", "followers < 0"),),
        (CELEBRITIES,),
    ),
    Bug(
        "done-across-a-loss",
        "a job ends as done although the store has lost work that was done for the job",
        (
            (
                "core/lua/lib/era.lua",
                "return (redis.call('HGET', TALLIES, 'era') or '') == era end",
                "return era ~= nil end",
            ),
        ),
        (LOST,),
    ),
    Bug(
        "audience-by-the-shards-of-a-call",
        "a push to many followers in few shards has the cost of a push to few followers",
        (
            (
                "core/fanout.py",
                "        if followers is None:\n            return limit\n        return min(",
                "        if followers is None:\n            return 10 * shards\n"
                "        return min(",
            ),
        ),
        (f"{BATCHING}::test_push_costs_what_it_may_reach_until_its_audience_is_known",),
    ),
    Bug(
        "each-waits-for-itself",
        "each caller that waits for a delivery makes its own call to look at the job",
        (("core/watch.py", "256, 64", "256, 1"),),
        (f"{NEIGHBOURS}::test_publishes_that_wait_for_deliveries_share_reads_of_the_progress",),
    ),
    Bug(
        "waiting-fails-with-the-store",
        "callers that wait for deliveries fail when the store does not answer for a while",
        (
            (
                "core/watch.py",
                "            except StoreUnavailable:\n                pass",
                "            except StoreUnavailable as away:\n"
                "                for watched in self._watched.values():\n"
                "                    watched.ended.set_exception(away)",
            ),
        ),
        (f"{NEIGHBOURS}::test_publish_that_waits_for_its_delivery_outlives_a_pause_of_the_store",),
    ),
    Bug(
        "deep-segment-outlives-a-settled-edge",
        "deep pages lack the old activities of a new followee",
        (("core/lua/settle.lua", "redis.call('DEL', cache_key(DEEP, follower))\n", ""),),
        (f"{DEEP}::test_deep_page_shows_every_change_since_it_was_cached",),
    ),
    Bug(
        "deep-segment-outlives-a-flip",
        "a deep segment keeps activities that the outbox of a celebrity has trimmed",
        (
            (
                "core/lua/flip.lua",
                "if redis.call('SADD', key(PULLED, follower), entity) == 1 then\n",
                "if redis.call('SADD', key(PULLED, follower), entity) == 2 then\n",
            ),
        ),
        (f"{DEEP}::test_deep_page_hides_what_a_celebritys_outbox_has_trimmed",),
    ),
)
