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
        "a request id is not looked at: a retry publishes a second activity",
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
        "a publish stores its job in a step of its own: a crash between them is never delivered",
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
        "a crash after the tombstone: live feeds never hear of the delete",
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
        "the store takes any time for now",
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
        "when too many jobs wait, an activity is published and not delivered",
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
        "the backlog of one author refuses the activities of all others of the shard",
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
        "a call that is repeated drops notes that nobody has carried",
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
        "what no outbox can hold is published, and said to be delivered",
        (
            ("core/activities.py", 'own_outbox = "-"', 'own_outbox = "0"'),
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
        "a publish whose reply was lost says that somebody published it before",
        (("core/lua/publish.lua", "earlier:sub(20) == call and 'published' or", "false or"),),
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
        "long-external-name",
        "the name of an external id record is cut wrongly if a part of it has 128 bytes or more",
        (("core/lua/lib/outbox.lua", "last - first < 130", "last - first < 300"),),
        ("tests/pitfalls/test_publish.py::test_external_ids_of_trimmed_activities_expire",),
    ),
    Bug(
        "servers-without-one-order",
        "activities of now are ordered by the clocks of their servers",
        (("core/lua/publish.lua", "  id = id_above(latest, proposed)\n", "  id = proposed\n"),),
        (f"{LATEST}::test_activities_of_several_servers_have_one_order",),
    ),
    Bug(
        "latest-pins-all",
        "a store's clock that was set back pins all activities above the greatest id",
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
            f"{script}-brings-what-is-not-known",
            "an id of a lost history is in a list, and what is published next is put behind it",
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
        "a broken feed ends the step that publishes, with the activity half published",
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
        "who has become a celebrity is not counted where the step that publishes is enough",
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
        "the external id of a deleted activity is kept for ever",
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
        "whoever keeps an index by external ids is told only the id of what was deleted",
        (
            (
                "core/lua/retract.lua",
                "announce_removed(OUTBOX_LOG .. entity, id, route)",
                "announce_removed(OUTBOX_LOG .. entity, id)",
            ),
        ),
        (f"{AGAIN}::test_removed_events_name_the_actor_and_the_external_id",),
    ),
)
