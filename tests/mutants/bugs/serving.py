"""Known bugs of the handlers, the interceptors and the server."""

from tests.mutants.bugs.bug import Bug
from tests.mutants.bugs.where import (
    ADDRESS,
    AGAIN,
    BAD_INPUT,
    BOUNDS,
    ENDED,
    FACTS,
    FEED_EVENTS,
    FROZEN,
    KNOWN,
    LOG,
    MODEL,
    NEIGHBOURS,
    REPLACED,
    SETTINGS,
    STATES,
    STREAM_ENDS,
    STREAMS,
    SUBSCRIBE_FEEDS,
    SUBSCRIPTIONS,
    VIEWERS,
    VIEWS,
)

BUGS = (
    Bug(
        "cursor-inclusive",
        "a page token includes its item: the last item of a page also begins the next page",
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
        "tokens are sealed with the secret that the store had when the server started",
        (
            (
                "tokens.py",
                "self._read_secret = secret if callable(secret) else lambda: secret",
                "self._read_secret = (lambda known: lambda: known)("
                "secret() if callable(secret) else secret)",
            ),
        ),
        (f"{REPLACED}::test_lost_store_record_is_written_again_and_a_new_secret_adopted",),
    ),
    Bug(
        "always-healthy",
        "the health service answers SERVING in every state of the store",
        (
            (
                "health_status.py",
                "    serves = condition.writes or",
                "    serves = True or",
            ),
        ),
        (STATES,),
    ),
    Bug(
        "token-of-the-end",
        "a poll answers with the token of the log's end instead of that of its last event",
        (
            (
                "services/subscriptions.py",
                "        first = pb.SubscribeFeedResponse.FromString(message)\n",
                "        first = pb.SubscribeFeedResponse.FromString(message)\n"
                "        source.log_positions = await source.open_logs()\n"
                "        first.resume_token = source.resume_token()\n",
            ),
        ),
        (f"{FEED_EVENTS}::test_polling_brings_all_events",),
    ),
    Bug(
        "checkpoint-before-the-log",
        "a stream sends a heartbeat while its log is still being read",
        (
            (
                "services/subscriptions.py",
                "if log_reads and writer.is_quiet and stream.all_read:",
                "if writer.is_quiet:",
            ),
        ),
        (f"{KNOWN}::test_checkpoint_waits_for_the_entries_of_the_log",),
    ),
    Bug(
        "routes-of-another",
        "an item gets the routes of another item in the same message",
        (
            (
                "services/feed_pages.py",
                "followed.intersection(possible_routes[activity_id])",
                "followed.intersection(next(iter(possible_routes.values())))",
            ),
        ),
        (f"{FEED_EVENTS}::test_events_that_are_read_together_have_their_present_routes",),
    ),
    Bug(
        "time-left-out",
        "the answer lacks the time of an activity that is published `to` other entities",
        (("wire.py", "if frame[1] & HAS_TIME:", "if frame[1] & (HAS_TIME | HAS_TO):"),),
        ("tests/unit/test_wire.py::test_answer_has_every_field_that_the_service_gives",),
    ),
    Bug(
        "stops-without-a-word",
        "a stopping server ends a stream without a last message that has the token",
        (
            (
                "services/subscriptions.py",
                "                    await writer.write(source.heartbeat_message())\n"
                "                raise\n",
                "                    pass\n                raise\n",
            ),
        ),
        (f"{KNOWN}::test_stopping_server_sends_a_checkpoint_last",),
    ),
    Bug(
        "page-before-the-log",
        "a stream that begins with a page misses events between the page and the end of the log",
        (
            (
                "services/event_sources.py",
                "        self.log_positions = [page.log_tail or log_end]\n",
                "        self.log_positions = await self.open_logs()\n",
            ),
        ),
        (STREAMS,),
    ),
    Bug(
        "all-goes-on-by-one-shard",
        "when several shards are read together, the log position of only one shard moves on",
        (
            (
                "services/event_sources.py",
                "                self.log_positions[log_index] = entry.position\n",
                "                if log_index == log_reads[0].log_index:\n"
                "                    self.log_positions[log_index] = entry.position\n",
            ),
        ),
        (STREAMS,),
    ),
    Bug(
        "many-stop-without-a-word",
        "a stopping server ends SubscribeFeeds without a last message for each subscription",
        (
            (
                "services/feed_multiplexer.py",
                "                await self._write_last_messages()\n",
                "",
            ),
        ),
        (STREAMS,),
    ),
    Bug(
        "token-of-what-was-read",
        "on SubscribeFeeds a message's token names the last entry read, not the message's last "
        "entry",
        (
            (
                "services/feed_multiplexer.py",
                "        for message in source.messages([LogEvents(0, entries, events)]):\n",
                "        source.log_positions = [log_cursor.position]\n"
                "        content = b''.join(events)\n"
                "        for message in [source._message(source.layout.events, content)]:\n",
            ),
        ),
        (f"{KNOWN}::test_token_of_a_message_stands_for_its_last_event",),
    ),
    Bug(
        "one-user-ends-the-others",
        "a defect while one subscription begins ends the stream of all subscriptions",
        (
            (
                "services/feed_multiplexer.py",
                "            except Exception as error:"
                "  # noqa: BLE001 (the other subscriptions go on)\n"
                "                if self._is_current(subscription):\n",
                "            except StoreUnavailable as error:\n"
                "                if self._is_current(subscription):\n",
            ),
            (
                "services/feed_multiplexer.py",
                "        finally:\n            self._add_slots.release()\n",
                "        except Exception as error:\n"
                "            self._request_error = error\n"
                "            self._stream.wake()\n"
                "        finally:\n            self._add_slots.release()\n",
            ),
        ),
        (f"{SUBSCRIBE_FEEDS}::test_user_who_cannot_be_added_does_not_end_the_stream_for_others",),
    ),
    Bug(
        "request-about-nobody-ends-all",
        "a request without a subscription_id ends the stream of all subscriptions",
        (
            (
                "services/feed_multiplexer.py",
                "        except InvalidRequest as error:\n",
                "        except InvalidRequest as error:\n"
                "            if not subscription_id:\n"
                "                raise\n",
            ),
        ),
        (f"{SUBSCRIBE_FEEDS}::test_bad_request_does_not_end_the_stream_for_others",),
    ),
    Bug(
        "lost-log-answered-with-its-token",
        "a request with a resume token is answered before the first read of the log",
        (
            (
                "services/feed_multiplexer.py",
                "                    if self._is_current(subscription):\n"
                "                        self._follow_log(subscription)\n"
                "                    return\n",
                "                    message = source.started_message(\n"
                "                        pb.SUBSCRIPTION_START_RESUMED\n"
                "                    )\n",
            ),
        ),
        (f"{SUBSCRIBE_FEEDS}::test_user_whose_log_was_trimmed_is_added_with_a_reset",),
    ),
    Bug(
        "message-as-long-as-it-comes",
        "everything that was read for a stream becomes one message, however long",
        (
            (
                "services/event_sources.py",
                "fits = pending_bytes + len(event) <= MESSAGE_EVENT_BYTES",
                "fits = True",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "message-of-all-shards",
        "the reads of several logs become one message of more events than the contract says",
        (
            (
                "services/event_sources.py",
                "if pending and not (fits and len(pending) < MESSAGE_EVENTS):",
                "if pending and not fits:",
            ),
        ),
        (f"{BOUNDS}::test_message_holds_no_more_events_than_the_contract_says",),
    ),
    Bug(
        "letters-as-long-as-they-come",
        "a page of dead letters may be longer than clients accept",
        (
            (
                "services/admin.py",
                "read_page(read, size, pb.DeadLetter.ByteSize)",
                "read_page(read, size)",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "batch-as-long-as-it-comes",
        "the answer to a batch may be longer than clients accept",
        (
            (
                "validation/__init__.py",
                "if request.size > BATCH_BYTES:",
                "if request.size < 0:",
            ),
        ),
        (BOUNDS,),
    ),
    Bug(
        "client-gone-is-a-defect",
        "a failure because the client has gone is logged as a defect, with its traceback",
        (
            (
                "interceptors/errors.py",
                "            except grpc.aio.InternalError as error:\n"
                '                log.debug("the client has gone: %s", error)\n'
                "                await _end(context, internal_status())\n"
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
        "flood-in-the-log",
        "the log has a line for each of very many failed calls",
        (
            (
                "core/log_limits.py",
                "        if self._lines < 1:\n            return False\n",
                "",
            ),
        ),
        (f"{LOG}::test_flood_of_failed_calls_is_counted", "tests/unit/test_log_limits.py"),
    ),
    Bug(
        "each-stream-end-is-a-failure",
        "streams that end by their age or with their server are logged as failed calls",
        (
            (
                "failed_calls.py",
                "        if isinstance(error, NORMAL_ENDS):\n            return\n",
                "",
            ),
        ),
        (f"{LOG}::test_ends_that_the_caller_or_the_server_chose_are_not_logged",),
    ),
    Bug(
        "metadata-sent-twice",
        "a stream whose first message is cut off sends its metadata twice and so never ends",
        (
            (
                "services/message_writer.py",
                "                await self._context.send_initial_metadata(())\n",
                "",
            ),
        ),
        (ENDED,),
    ),
    Bug(
        "ends-while-the-client-writes",
        "SubscribeFeeds ends while its client sends requests: the client gets INTERNAL",
        (("services/feed_multiplexer.py", "        await self._linger()\n", ""),),
        (ENDED,),
    ),
    Bug(
        "streams-without-bound",
        "a server accepts any number of streams",
        (
            (
                "services/subscriptions.py",
                "        if self._open_streams >= self._config.max_streams:\n",
                "        if self._open_streams < 0:\n",
            ),
        ),
        (f"{STREAM_ENDS}::test_stream_beyond_the_limit_is_refused",),
    ),
    Bug(
        "batch-all-at-once",
        "all entries of a batch are published at the same time",
        (
            (
                "services/activities.py",
                "await run_concurrently(publish_next, ENTRIES_AT_ONCE)",
                "await run_concurrently(publish_next, len(batch.entries))",
            ),
        ),
        (f"{NEIGHBOURS}::test_batch_is_published_a_few_entries_at_a_time",),
    ),
    Bug(
        "batch-in-one-go",
        "the entries of a batch are checked without a pause for other calls",
        (("batch_requests.py", "            await asyncio.sleep(0)\n", "            pass\n"),),
        (f"{NEIGHBOURS}::test_event_loop_turns_between_any_two_checks_of_entries",),
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
        (f"{NEIGHBOURS}::test_each_connection_has_a_share_of_the_work",),
    ),
    Bug(
        "waiting-takes-places",
        "a call that waits for a delivery keeps its part of its caller's share",
        (("admission.py", "    if turn is not None:\n        turn.release()", "    pass"),),
        (f"{NEIGHBOURS}::test_publish_that_waits_for_its_delivery_does_not_use_up_the_share",),
    ),
    Bug(
        "refused-without-pushback",
        "the status does not say when gRPC itself may retry",
        (
            (
                "error_mapping.py",
                'PUSHBACK_KEY = "grpc-retry-pushback-ms"',
                'PUSHBACK_KEY = "pushback"',
            ),
        ),
        (f"{NEIGHBOURS}::test_overloaded_server_says_when_to_try_again",),
    ),
    Bug(
        "what-waits-is-cancelled",
        "a stopping server cancels the calls that it has not begun",
        (
            ("server.py", "        self._admission.drain()\n", ""),
            ("process.py", "        server.exits = True\n", ""),
        ),
        (
            f"{NEIGHBOURS}::test_stopping_server_refuses_calls_that_have_not_started",
            f"{NEIGHBOURS}::test_restarts_show_clients_only_unavailable",
        ),
    ),
    Bug(
        "exits-by-grpc",
        "a stopping server stops gRPC: calls that arrive meanwhile end with CANCELLED",
        (("process.py", "        server.exits = True\n", ""),),
        (f"{NEIGHBOURS}::test_restarts_show_clients_only_unavailable",),
    ),
    Bug(
        "not-a-number",
        "the field `extra` accepts numbers that JSON cannot write",
        (
            (
                "validation/activity.py",
                "    elif _MAY_BE_NO_NUMBER.search(serialised):",
                "    elif False:",
            ),
        ),
        (f"{BAD_INPUT}::test_number_that_json_cannot_write_is_refused",),
    ),
    Bug(
        "time-makes-another-activity",
        "a caller that publishes a returned activity again gets a conflict",
        (
            (
                "wire.py",
                "return FramedActivity(frame, comparable)",
                "return FramedActivity(frame, comparable + publish_time)",
            ),
        ),
        (f"{AGAIN}::test_returned_activity_can_be_published_again",),
    ),
    Bug(
        "unknown-view-shown-flat",
        "a view that the server does not know is answered as the flat view",
        (
            (
                "validation/checks.py",
                "if len(UnknownFieldSet(view)) or len(UnknownFieldSet(view.flat)):",
                "if False:",
            ),
        ),
        (f"{VIEWS}::test_unknown_view_is_refused_by_every_method_that_takes_a_view",),
    ),
    Bug(
        "request-without-rules-let-through",
        "a request without rules is accepted unchecked",
        (
            (
                "validation/__init__.py",
                '            if request.DESCRIPTOR.file.package.startswith("activityfeed."):\n',
                "            if False:\n",
            ),
        ),
        (f"{FROZEN}::test_request_without_rules_is_not_accepted",),
    ),
    Bug(
        "viewer-not-asked",
        "a feed shows a viewer items that the viewer may not see",
        (
            (
                "services/feed_pages.py",
                "visible = await engine.viewers.activities(query.viewer, stored)",
                "visible = stored",
            ),
        ),
        (f"{VIEWERS}::test_read_shows_nothing_that_its_viewer_may_not_see",),
    ),
    Bug(
        "resumed-before-it-is-known",
        "a stream says RESUMED before the first read of its log",
        (
            (
                "services/subscriptions.py",
                "        if not resume_token:\n"
                "            await writer.write("
                "source.started_message(pb.SUBSCRIPTION_START_NEW))\n",
                "        await writer.write("
                "source.started_message(pb.SUBSCRIPTION_START_RESUMED))\n",
            ),
        ),
        (f"{SUBSCRIPTIONS}::test_stream_of_an_expired_token_begins_with_the_error",),
    ),
    Bug(
        "former-variable-is-ignored",
        "a server silently ignores a variable by which an earlier version was configured",
        (
            (
                "cli/settings.py",
                'variable_names = [flag_name, metadata.get("former_flag")]',
                "variable_names = [flag_name]",
            ),
        ),
        (f"{SETTINGS}::test_a_former_flag_and_variable_keep_working",),
    ),
    Bug(
        "generator-outlives-its-parent",
        "a process of the load generator goes on after its parent was killed",
        (("cli/load_test/generator.py", "    os._exit(0)", "    time.sleep(60)\n    os._exit(0)"),),
        ("tests/cli/test_bench.py::test_processes_end_with_a_killed_parent_and_print_nothing",),
    ),
    Bug(
        "long-ids-are-cut",
        "a table on a narrow terminal cuts an id that is longer than its column",
        (("cli/rendering.py", 'column.overflow = "fold"', 'column.overflow = "ellipsis"'),),
        ("tests/cli/test_rendering.py::test_an_id_that_is_longer_than_its_column_is_not_cut",),
    ),
    Bug(
        "status-asks-each-time",
        "each call of GetServerStatus asks the store",
        (
            (
                "core/store_facts.py",
                "        if self._reading is None or (self._reading.done() and",
                "        if True or (self._reading.done() and",
            ),
        ),
        (f"{FACTS}::test_callers_share_one_reading",),
    ),
    Bug(
        "stops-in-silence",
        "a stopping server does not report its state",
        (
            (
                "interceptors/admission.py",
                "admission.enter(caller, weight, for_operators=for_operators)",
                "admission.enter(caller, weight)",
            ),
        ),
        (f"{NEIGHBOURS}::test_full_or_stopping_server_reports_its_state",),
    ),
    Bug(
        "password-on-the-banner",
        "the banner and the log show the password in the store's address",
        (
            (
                "core/address.py",
                "    check(url)\n    scheme = urlsplit(url).scheme\n",
                "    return url\n    scheme = urlsplit(url).scheme\n",
            ),
        ),
        (ADDRESS,),
    ),
)
