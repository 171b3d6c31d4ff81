"""Known bugs of publishing, deleting and retention."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    AGAIN,
    DIES,
    FAIRNESS,
    JOBS,
    LATEST,
    LOST_REPLY,
    MODEL,
    PITFALLS,
    RETENTION,
    TO_ONLY,
)

BUGS = (
    Bug(
        "retry-publishes-again",
        "a retry with the same request id publishes a second activity",
        (
            (
                "core/lua/publish.lua",
                "local earlier = request_result(request, digest)",
                "local earlier = nil",
            ),
        ),
        (MODEL,),
    ),
    Bug(
        "job-outside-the-step",
        "the step that publishes makes no job: after a crash the activity is never delivered",
        (
            (
                "core/lua/publish.lua",
                "if not is_delivered then job_own(job(id)) end\n",
                "",
            ),
        ),
        (DIES, JOBS),
    ),
    Bug(
        "delete-without-a-job",
        "a delete makes no job: after a crash live feeds never get the removal",
        (("core/lua/delete.lua", "job_own(job)\n", ""),),
        (DIES, f"{PITFALLS}/test_follow_delete.py"),
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
                "  proposed = id_at(clock_ms(), proposed)\n",
                "",
            ),
        ),
        (f"{PITFALLS}/test_clock.py",),
    ),
    Bug(
        "clock-is-believed",
        "the store accepts any time as the present time",
        (
            (
                "core/lua/publish.lua",
                "  proposed = id_at(clock_ms(), proposed)\n",
                "",
            ),
        ),
        (f"{PITFALLS}/test_clock.py::test_store_corrects_an_id_when_the_server_clock_is_wrong",),
    ),
    Bug(
        "silent-drop",
        "when too many jobs wait, an activity is published but not delivered",
        (
            (
                "core/lua/publish.lua",
                "then\n  return answer('overloaded')\nend\n",
                "then\n  needs_job = false\nend\n",
            ),
        ),
        (JOBS,),
    ),
    Bug(
        "author-fills-the-queue",
        "one author's backlog makes the shard refuse the activities of all authors",
        (
            (
                "core/lua/publish.lua",
                "if 2 * unfinished >= MAX_JOBS\n"
                "  and redis.call('LLEN', key(WAITING, actor)) >= MAX_JOBS - unfinished then",
                "if redis.call('EXISTS', key(WAITING, actor)) and unfinished >= MAX_JOBS then",
            ),
        ),
        (FAIRNESS,),
    ),
    Bug(
        "carried-by-everybody",
        "every process carries the same trim notes",
        (
            (
                "core/lua/trim_notes_take.lua",
                "if carrier and not is_ours and carrier ~= call then return {} end",
                "if false then return {} end",
            ),
        ),
        (RETENTION,),
    ),
    Bug(
        "carried-one-by-one",
        "trim notes are carried one by one",
        (("core/retention.py", "NOTES_A_CALL = 200", "NOTES_A_CALL = 1"),),
        (RETENTION,),
    ),
    Bug(
        "notes-dropped-twice",
        "a repeated call drops notes that no process has carried",
        (
            (
                "core/lua/trim_notes_take.lua",
                "local is_ours = carrier and carrier == last_call",
                "local is_ours = carrier and last_call ~= ''",
            ),
        ),
        (RETENTION,),
    ),
    Bug(
        "delivered-to-nobody",
        "an activity that no outbox can hold is published and reported as delivered",
        (
            ("core/activities.py", 'own_outbox = "-"', 'own_outbox = "0"'),
            ("core/activities.py", "if not delivery.held:", "if delivery is None:"),
        ),
        (TO_ONLY,),
    ),
    Bug(
        "id-used-again",
        "an id that only other outboxes held is given to a new activity after its tombstone "
        "expired",
        (("core/lua/publish.lua", "if id <= retired_of(actor)[2] then", "if id == '' then"),),
        (TO_ONLY,),
    ),
    Bug(
        "deletion-announced-to-strangers",
        "an actor's followers learn the id of a deleted activity that was not addressed to them",
        (
            (
                "core/lua/delete.lua",
                "id, actor, is_own, ARGV, RECIPIENTS",
                "id, actor, true, ARGV, RECIPIENTS",
            ),
        ),
        (TO_ONLY,),
    ),
    Bug(
        "published-already-by-itself",
        "a publish whose reply was lost reports that an earlier call published the activity",
        (("core/lua/publish.lua", "earlier:sub(20) == call and 'published' or", "false or"),),
        (LOST_REPLY,),
    ),
    Bug(
        "edge-was-not-there",
        "an unfollow whose reply was lost reports that the edge did not exist",
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
        "long-external-name",
        "the name of an external id record is cut wrongly if a part of it has 128 bytes or more",
        (("core/lua/lib/outbox.lua", "last - first < 130", "last - first < 300"),),
        ("tests/pitfalls/test_publish.py::test_external_ids_of_trimmed_activities_expire",),
    ),
    Bug(
        "servers-without-one-order",
        "the clocks of the servers, not the store, order present activities",
        (("core/lua/publish.lua", "  id = id_above(latest, proposed)\n", "  id = proposed\n"),),
        (f"{LATEST}::test_activities_of_several_servers_have_one_order",),
    ),
    Bug(
        "latest-pins-all",
        "after the store's clock was set back, all new ids follow the greatest id",
        (
            (
                "core/lua/publish.lua",
                " and id_ms(latest) <= clock_ms() + NEAR_MS then",
                " then",
            ),
        ),
        (f"{LATEST}::test_greatest_id_far_ahead_does_not_hold_later_ids",),
    ),
    *(
        Bug(
            f"{script}-does-not-raise-the-greatest-id",
            "a list takes an id of a lost history, and later activities are appended out of order",
            ((f"core/lua/{script}.lua", call, ""),),
            (f"{LATEST}::test_ids_of_a_lost_history_raise_the_greatest_id",),
        )
        for script, call in (
            ("outbox_add", "latest_raise(id)\n"),
            ("push", "latest_raise(id)\n"),
            ("settle", "  latest_raise(newest_id)\n"),
        )
    ),
    Bug(
        "broken-feed-fails-the-step",
        "a broken feed ends the step that publishes, and the activity is half published",
        (
            (
                "core/lua/publish.lua",
                "pcall(push_all, id, shards, any_live, is_newest)",
                "true, push_all(id, shards, any_live, is_newest)",
            ),
        ),
        (f"{LATEST}::test_publish_leaves_a_broken_feed_to_a_job",),
    ),
    Bug(
        "step-counts-nobody",
        "a new celebrity is not counted when the step that publishes delivers everything",
        (
            (
                "core/lua/publish.lua",
                "(CELEBRITY_THRESHOLD == 0 or seen < CELEBRITY_THRESHOLD)",
                "true",
            ),
        ),
        (f"{LATEST}::test_publish_leaves_a_possible_celebrity_to_the_workers",),
    ),
    Bug(
        "external-id-for-good",
        "the record of a deleted activity's external id never expires",
        (
            (
                "core/lua/delete.lua",
                "redis.call('PEXPIRE', key(EXTERNAL, external), TOMBSTONE_MS)",
                "redis.call('EXISTS', key(EXTERNAL, external))",
            ),
        ),
        (f"{AGAIN}::test_external_ids_expire_after_their_activity",),
    ),
    Bug(
        "removed-without-a-name",
        "a removed event has only the activity id, not the actor and the external id",
        (
            (
                "core/lua/retract.lua",
                "announce_removed(OUTBOX_LOG .. entity, id, route)",
                "announce_removed(OUTBOX_LOG .. entity, id)",
            ),
        ),
        (f"{AGAIN}::test_removed_events_name_the_actor_and_the_external_id",),
    ),
    Bug(
        "lost-reply-is-published-twice",
        "`feedsvc publish` sends no request id that its message could name after a lost reply",
        (("cli/publish.py", "request_id=request_id or uuid.uuid4().hex,", 'request_id="",'),),
        (
            "tests/cli/test_publish.py"
            "::test_after_a_lost_reply_the_printed_command_publishes_nothing_twice",
        ),
    ),
    Bug(
        "published-into-a-closed-stdout",
        "a command calls the server first, and notices a closed standard output afterwards",
        (("cli/connection.py", "    check_stdout()\n", ""),),
        ("tests/cli/test_output.py::test_a_closed_stdout_is_refused_before_any_call",),
    ),
)
