"""Known bugs of the handlers, the interceptors and the server."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    AGAIN,
    BAD_INPUT,
    BOUNDS,
    ENDED,
    FROZEN,
    KNOWN,
    MODEL,
    NEIGHBOURS,
    REPLACED,
    STATES,
    STREAMS,
    SUBSCRIPTIONS,
    VIEWERS,
)

BUGS = (
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
)
