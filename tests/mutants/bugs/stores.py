"""Known bugs of the connection to the store."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import BATCHING, FAILOVER, LOST, REPLACED

BUGS = (
    Bug(
        "demoted-primary",
        "open connections go on reading from a node that has become a replica",
        (
            (
                "core/transport.py",
                "        if now - self._role_seen < ROLE_SECONDS:\n",
                "        if now - self._role_seen < ROLE_SECONDS * 1e9:\n",
            ),
            (
                "core/health.py",
                "                await self._store.rediscover()\n",
                "                return Finding(Condition.READY)\n",
            ),
        ),
        (f"{FAILOVER}::test_demoted_primary_is_neither_read_nor_written",),
    ),
    Bug(
        "greeting-without-role",
        "neither the greeting nor a READONLY error reveals that the node is a replica",
        (
            ("core/greeting.py", '    if info.get("role") != "master":\n', "    if False:\n"),
            (
                "core/transport.py",
                '        if isinstance(role, Exception) or role[0] != b"master":\n',
                "        if False:\n",
            ),
            ("core/transport.py", "    if is_replica:\n", "    if False:\n"),
        ),
        (f"{FAILOVER}::test_demoted_primary_is_neither_read_nor_written",),
    ),
    Bug(
        "sentinels-are-asked-once",
        "connections wait for a hanging primary although the Sentinels name another node",
        (
            (
                "core/store.py",
                "        if connection is not None "
                "and (connection.host, connection.port) != primary:\n",
                "        if False:\n",
            ),
            (
                "core/transport.py",
                "            await connection.connect()  # which asks the Sentinels anew\n",
                "            pass\n",
            ),
        ),
        (f"{FAILOVER}::test_server_follows_the_primary_that_sentinels_name",),
    ),
    Bug(
        "unsupervised",
        "a background task that dies is not started again",
        (
            (
                "core/background.py",
                '            log_failure(log, f"{name} died and is started again", error)\n',
                (
                    '            log_failure(log, f"{name} died and is started again", error)\n'
                    "            return\n"
                ),
            ),
        ),
        ("tests/unit/test_background.py",),
    ),
    Bug(
        "record-is-read-once",
        "a server goes on serving after another version has taken over its store",
        (
            (
                "core/store.py",
                ("            self._known.adopt(record)\n        except ForeignStore:\n"),
                "        except ForeignStore:\n",
            ),
        ),
        (f"{REPLACED}::test_server_stops_serving_on_a_store_with_another_schema",),
    ),
    Bug(
        "era-is-a-count",
        "the era is a count: after a second loss the store has the era of another history",
        (
            (
                "core/lua/incarnate.lua",
                "  if is_lost or not old_era then era = new_era end\n",
                "  if is_lost or not old_era then era = tostring(tonumber(old_era or 0) + 1) end\n",
            ),
        ),
        (f"{LOST}::test_second_loss_is_distinguished_from_the_first",),
    ),
    Bug(
        "evicts-what-expires",
        "a server accepts a store that evicts request ids and tombstones",
        (
            (
                "core/fitness.py",
                '    if policy != "noeviction":\n',
                '    if str(policy).startswith("allkeys"):\n',
            ),
        ),
        ("tests/contract/test_store_fitness.py::test_store_that_evicts_is_refused",),
    ),
    Bug(
        "cluster-of-several",
        "a server accepts a node of a cluster of several nodes",
        (
            (
                "core/fitness.py",
                '    if not is_whole or int(info.get("cluster_size", 0)) != 1:\n',
                "    if False:\n",
            ),
        ),
        ("tests/contract/test_store_fitness.py::test_cluster_of_several_nodes_is_refused",),
    ),
    Bug(
        "redo-by-the-clock",
        "after a loss, the clock decides which jobs are repeated; an operator may have set it back",
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
        (f"{LOST}::test_jobs_are_repeated_after_a_loss_though_the_clock_was_set",),
    ),
    Bug(
        "name-in-a-text-replaced",
        "the loader replaces a name in capitals inside a text of a script",
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
        "first-come-first-served",
        "commands wait in one queue: one caller's hundreds delay another caller's single command",
        (("core/batching.py", "        caller = CALLER.get()\n", "        caller = None\n"),),
        (f"{BATCHING}::test_one_command_does_not_wait_for_hundreds_of_another_caller",),
    ),
    Bug(
        "long-batches-beside-others",
        "a caller with much to send fills whole batches while other callers wait",
        (("core/batching.py", "BATCH_COST - SHARED_COST if is_shared else 0", "0"),),
        (f"{BATCHING}::test_batches_of_a_busy_caller_are_short_while_others_are_active",),
    ),
    Bug(
        "short-batches-for-all",
        "many callers with few commands get short batches, as if each caller had many commands",
        (
            (
                "core/batching.py",
                "remaining > (0 if self._newcomers else reserved)",
                "remaining > reserved",
            ),
        ),
        (f"{BATCHING}::test_many_callers_with_few_commands_share_a_batch",),
    ),
    Bug(
        "batch-waits-for-what-others-do",
        "a batch is collected for several turns of the event loop, however long these turns take",
        (
            (
                "core/batching.py",
                "            if len(self._queues) > 1 and ",
                "            if False and ",
            ),
        ),
        (f"{BATCHING}::test_batch_does_not_wait_for_other_work_of_the_event_loop",),
    ),
    Bug(
        "batches-without-a-cost",
        "a batch holds any number of costly commands, and all callers wait for its end",
        (("core/batching.py", "                remaining -= cost\n", ""),),
        (f"{BATCHING}::test_batch_is_bounded_by_its_cost",),
    ),
    Bug(
        "cancelled-commands-leave",
        "a command is sent although its caller was cancelled",
        (("core/batching.py", "                if answer.done():", "                if False:"),),
        (f"{BATCHING}::test_cancelled_command_is_not_sent",),
    ),
    Bug(
        "cancelled-copy-has-done-its-part",
        "a merge goes on without the outboxes of a lane whose call was cancelled",
        (
            (
                "core/concurrency.py",
                "        await asyncio.gather(*tasks)\n",
                "        await asyncio.wait(tasks)\n",
            ),
        ),
        ("tests/unit/test_concurrency.py",),
    ),
)
