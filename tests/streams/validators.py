"""Validators of a history of streams: each yields what no stream may have said."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise

from tests.harness.history import NEVER, Publish, may_follow
from tests.harness.validation import (
    Findings,
    Violation,
    find_violations,
    no_complaint_was_noted,
)
from tests.streams.history import (
    Chain,
    Event,
    LogEntry,
    Message,
    Resumption,
    StreamHistory,
    StreamRecord,
    Subject,
    chains_of,
)

#: Ends before which a server says where the stream stands.
ENDS_AFTER_CHECKPOINT = ("UNAVAILABLE DRAINING", "UNAVAILABLE STREAM_EXPIRED")

#: The kind of an event and the activity or entity in it.
Key = tuple[str, str]


def violations_of(history: StreamHistory) -> list[Violation[Subject]]:
    """Return all violations; none if the service kept its promises."""
    return find_violations(history, VALIDATORS)


def subscribers_agree_on_order(history: StreamHistory) -> Findings[Subject]:
    """Subscribers of one log receive its events in the same order.

    Chains that share a token share the log. The subject "all" has a log in each shard: the order
    holds there for the activities of one actor.
    """
    by_subject = defaultdict(list)
    for chain in chains_of(history):
        by_subject[chain.subject].append(chain)
    for subject, chains in by_subject.items():
        for first, second in combinations(chains, 2):
            if not first.tokens & second.tokens:
                continue
            for first_keys, second_keys in _common_keys(history, first, second):
                if swapped := _first_swap(first_keys, second_keys):
                    text = f"{first.subscriber} and {second.subscriber} received {subject} "
                    text += f"with {swapped[0]} and {swapped[1]} in different order"
                    yield text, subject, _numbers_of(history, swapped)
        if subject.kind == "all":
            for chain in chains:
                yield from _swapped_publishes(history, chain)


def no_event_comes_twice(history: StreamHistory) -> Findings[Subject]:
    """A chain adds and removes an activity once, and does not add what its page showed."""
    for chain in chains_of(history):
        counts = Counter(event.key for event in chain.events if event.kind in {"added", "removed"})
        for (kind, activity_id), count in counts.items():
            if count > 1:
                text = f"{chain.subscriber} received {count} times that {activity_id} was {kind}"
                yield text, chain.subject, _numbers_of(history, [(kind, activity_id)])
        if chain.page is None:
            continue
        first_stream = chain.parts[0][0]
        removed: set[str] = set()
        for stream, message in chain.parts:
            if stream is not first_stream:  # a stream that resumed knows of no page
                continue
            for event in message.events:
                if event.kind == "removed":
                    removed.add(event.target)
                elif event.kind == "added" and event.target in chain.paged_ids - removed:
                    text = f"{chain.subscriber} received what its page showed: {event}"
                    yield text, chain.subject, (event.number,)


def chains_are_complete(history: StreamHistory) -> Findings[Subject]:
    """A chain that was read to the end holds all that happened since it began."""
    for chain in chains_of(history):
        if not history.was_read_to_the_end(chain):
            continue
        keys = {event.key for event in chain.events}
        lowest_id = 0
        if chain.page and chain.page.is_full:
            lowest_id = min(map(int, chain.paged_ids), default=0)
        since = chain.parts[0][0].began if chain.page else chain.since
        for publish in history.publishes.values():
            if not publish.is_acknowledged or publish.began >= history.quiet_since:
                continue
            activity_id = str(publish.id)
            is_there = activity_id in chain.paged_ids or ("added", activity_id) in keys
            is_new = publish.began >= chain.since or (
                chain.page is not None and publish.id > lowest_id
            )
            belongs = certainly_belongs(history, chain.subject, publish, max(since, publish.began))
            if is_new and belongs and publish.delete_began == NEVER and not is_there:
                text = f"{chain.subscriber} did not receive #{publish.number} of {chain.subject}"
                yield text, chain.subject, (publish.number,)
            is_deleted = publish.delete_ended < NEVER and publish.delete_began >= chain.since
            must_remove = is_deleted and certainly_belongs(
                history, chain.subject, publish, publish.delete_began
            )
            if must_remove and ("removed", activity_id) not in keys:
                text = f"{chain.subscriber} did not receive the deletion of #{publish.number}"
                yield text, chain.subject, (publish.number,)
        yield from _missing_edge_changes(history, chain)


def tokens_resume_exactly(history: StreamHistory) -> Findings[Subject]:
    """A token resumes with exactly what came after its message; one of a lost log never does."""
    yield from _wrong_resumptions(history, of_checkpoints=False)


def checkpoints_resume_exactly(history: StreamHistory) -> Findings[Subject]:
    """A token of a message without events resumes with exactly what came after it."""
    yield from _wrong_resumptions(history, of_checkpoints=True)


def tokens_skip_nothing(history: StreamHistory) -> Findings[Subject]:
    """All that a log holds between the tokens of two messages is in the second message.

    Exceptions are activities that were deleted, or whose source may have been unfollowed, before
    the message was sent.
    """
    for chain in chains_of(history):
        for begin, message in _intervals(chain):
            keys = {event.key for event in message.events}
            for entry in _entries_between(history, chain.subject, begin, message.token):
                if entry.key in keys or _may_be_left_out(history, chain, entry):
                    continue
                text = f"{chain.subscriber} got a token behind {entry.kind} {entry.target}"
                text += f" of {chain.subject}, which it did not receive"
                yield text, chain.subject, _numbers_of(history, [entry.key])


def no_ghosts_appear(history: StreamHistory) -> Findings[Subject]:
    """No activity is added after its removal, its deletion, or the unfollow of all its sources."""
    for chain in chains_of(history):
        removed: set[str] = set()
        for stream, message in chain.parts:
            for event in message.shown:
                if event.kind == "removed":
                    removed.add(event.target)
                if event.kind not in {"added", "shown"}:
                    continue
                publish = history.publishes.get(event.number)
                if event.target in removed:
                    mistake = "after it was removed"
                elif publish is None or publish.is_refused:
                    mistake = "which was never published"
                elif publish.delete_ended <= stream.began:
                    mistake = "which was deleted before the stream began"
                elif not _may_belong(history, chain.subject, publish, stream.began, message.time):
                    mistake = "which does not belong there"
                else:
                    continue
                text = f"{chain.subscriber} received {event} of {chain.subject}, {mistake}"
                yield text, chain.subject, (event.number,)


def ended_streams_say_where_they_stand(history: StreamHistory) -> Findings[Subject]:
    """A stream that its server ends sends a checkpoint last."""
    for stream in history.streams:
        if stream.messages:
            is_right = not stream.messages[-1].events
        else:
            # A shared stream may end before a subject was added. A stream that ends before it was
            # resumed has no need of a checkpoint: its client has the token.
            is_right = stream.is_shared or stream.is_poll or bool(stream.token)
        if stream.end in ENDS_AFTER_CHECKPOINT and not is_right:
            text = f"{stream.subscriber}'s stream ended with {stream.end} and no checkpoint"
            yield text, stream.subject, ()


def lost_logs_have_a_cause(history: StreamHistory) -> Findings[Subject]:
    """A log is lost only if the harness broke it, or if logs are short."""
    if history.may_lose_logs:
        return
    for chain in chains_of(history):
        if chain.is_lost and not history.log_was_broken(chain.subject):
            yield f"{chain.subscriber} lost {chain.subject} without a cause", chain.subject, ()


VALIDATORS: Sequence[Callable[[StreamHistory], Findings[Subject]]] = (
    no_complaint_was_noted,
    subscribers_agree_on_order,
    no_event_comes_twice,
    chains_are_complete,
    tokens_resume_exactly,
    checkpoints_resume_exactly,
    tokens_skip_nothing,
    no_ghosts_appear,
    ended_streams_say_where_they_stand,
    lost_logs_have_a_cause,
)


# Where an activity belongs.


def certainly_belongs(
    history: StreamHistory, subject: Subject, publish: Publish, since: float
) -> bool:
    """Return whether an activity belongs to a subject for sure, from a time to the end."""
    if subject.kind == "all" or subject.name in publish.outboxes:
        return True
    return subject.kind == "feed" and any(
        _certainly_follows(history, subject.name, source, since) for source in publish.outboxes
    )


def _certainly_follows(history: StreamHistory, user: str, source: str, since: float) -> bool:
    """Return whether an edge existed for sure, from a time to the end."""
    changes = history.edges.get((user, source), [])
    before = [change for change in changes if change.ended <= since]
    return bool(before) and before[-1].is_follow and len(before) == len(changes)


def _may_belong(
    history: StreamHistory, subject: Subject, publish: Publish, began: float, ended: float
) -> bool:
    """Return whether an activity may have belonged to a subject at a time between two moments."""
    if subject.kind == "all" or subject.name in publish.outboxes:
        return True
    return subject.kind == "feed" and any(
        may_follow(history.edges.get((subject.name, source), []), began, ended)
        for source in publish.outboxes
    )


# Order.


def _common_keys(
    history: StreamHistory, first: Chain, second: Chain
) -> Iterator[tuple[list[Key], list[Key]]]:
    """Yield the events that two chains share, in the order of each; those of "all" by actor."""
    first_by_actor, second_by_actor = (_keys_by_actor(history, chain) for chain in (first, second))
    for actor in first_by_actor.keys() & second_by_actor.keys():
        common = set(first_by_actor[actor]).intersection(second_by_actor[actor])
        yield (
            [key for key in first_by_actor[actor] if key in common],
            [key for key in second_by_actor[actor] if key in common],
        )


def _keys_by_actor(history: StreamHistory, chain: Chain) -> dict[str, list[Key]]:
    """Return the added and removed activities of a chain; only those of "all" by actor."""
    by_actor = defaultdict(list)
    for event in chain.events:
        if event.kind in {"added", "removed"}:
            actor = history.actors.get(event.target, "") if chain.subject.kind == "all" else ""
            by_actor[actor].append(event.key)
    return by_actor


def _first_swap(first_keys: Sequence[Key], second_keys: Sequence[Key]) -> list[Key]:
    """Return two neighbours that stand the other way round in the second order; or none."""
    indexes = {key: index for index, key in enumerate(second_keys)}
    for before, after in pairwise(dict.fromkeys(first_keys)):
        if indexes[before] > indexes[after]:
            return [before, after]
    return []


def _swapped_publishes(history: StreamHistory, chain: Chain) -> Findings[Subject]:
    """Yield activities of one actor that came before an earlier one."""
    by_actor = defaultdict(list)
    for event in chain.events:
        if event.kind == "added" and event.number in history.publishes:
            publish = history.publishes[event.number]
            by_actor[publish.actor].append(publish)
    for actor, publishes in by_actor.items():
        for first, second in combinations(publishes, 2):
            if second.ended < first.began:
                text = f"{chain.subscriber} received of {actor} #{first.number} before the "
                text += f"earlier #{second.number}"
                yield text, chain.subject, (first.number, second.number)


def _numbers_of(history: StreamHistory, keys: Iterable[Key]) -> tuple[int, ...]:
    """Return the numbers of the publishes in events."""
    targets = {target for _, target in keys}
    return tuple(
        publish.number for publish in history.publishes.values() if str(publish.id) in targets
    )


def _missing_edge_changes(history: StreamHistory, chain: Chain) -> Findings[Subject]:
    """Yield acknowledged follows and unfollows that a chain lacks, or holds in another order."""
    if chain.subject.kind != "feed":
        return
    user = chain.subject.name
    for followee in {change.followee for change in history.changes if change.follower == user}:
        received = iter(
            [
                event.kind == "followed"
                for event in chain.events
                if event.kind in {"followed", "unfollowed"} and event.target == followee
            ]
        )
        for change in history.edges[user, followee]:
            is_sure = change.ended < NEVER and (change.made_edge or not change.is_follow)
            # `in` consumes the iterator, so that each change is searched after the one before.
            if is_sure and change.began >= chain.since and change.is_follow not in received:
                verb = "followed" if change.is_follow else "unfollowed"
                text = f"{chain.subscriber} did not receive that {user} {verb} {followee}"
                yield text, chain.subject, ()
                break


# Tokens.


def _intervals(chain: Chain) -> Iterator[tuple[str, Message]]:
    """Yield each message with the token after which it was read, if there is such a token."""
    previous: tuple[StreamRecord, Message] | None = None
    for stream, message in chain.parts:
        if previous is None:
            begin = stream.token if not message.page else ""
        else:
            begin = previous[1].token if previous[0] is stream else stream.token
        previous = stream, message
        if begin and not {"created", "reset"} & {event.kind for event in message.events}:
            yield begin, message


def _entries_between(
    history: StreamHistory, subject: Subject, begin: str, end: str
) -> Iterator[LogEntry]:
    """Yield the entries behind one token and not behind another, of logs that hold both."""
    begins, ends = (history.log_positions.get((subject, token), []) for token in (begin, end))
    for entries, first, last in zip(history.logs.get(subject, []), begins, ends, strict=False):
        indexes = {entry.position: index for index, entry in enumerate(entries)}
        if first in indexes and last in indexes:
            yield from entries[indexes[first] + 1 : indexes[last] + 1]


def _may_be_left_out(history: StreamHistory, chain: Chain, entry: LogEntry) -> bool:
    """Return whether a stream may leave out an entry, because it was overtaken."""
    if entry.kind != "added":
        return False
    publish = history.publish_of(entry.target)
    return (
        publish is None
        or publish.delete_began < NEVER
        or entry.target in chain.paged_ids
        or not certainly_belongs(history, chain.subject, publish, publish.began)
    )


def _wrong_resumptions(history: StreamHistory, *, of_checkpoints: bool) -> Findings[Subject]:
    chains = list(chains_of(history))
    for resumption in history.resumptions:
        for chain in chains:
            if chain.subject != resumption.subject or resumption.token not in chain.tokens:
                continue
            index = max(
                index
                for index, (_, message) in enumerate(chain.parts)
                if message.token == resumption.token
            )
            is_checkpoint = not chain.parts[index][1].events
            if is_checkpoint != of_checkpoints:
                continue
            if mistake := _mistake_in(history, chain, index, resumption):
                yield f"{chain.subscriber}: {mistake}", chain.subject, ()


def _mistake_in(history: StreamHistory, chain: Chain, index: int, resumption: Resumption) -> str:
    """Return what a resumption does wrong after a part of a chain; empty if nothing is wrong."""
    stream, message = chain.parts[index]
    name = f"the token of {message.time:.3f} on {resumption.server}"
    if chain.is_lost:
        return "" if resumption.is_lost else f"{name} resumes a log that was lost"
    if resumption.is_lost:
        # A slow reader reads late: the message may have been sent any time since its stream began.
        was_broken = history.log_was_broken(chain.subject, since=stream.began)
        return "" if history.may_lose_logs or was_broken else f"{name} is lost without a cause"
    if not history.was_read_to_the_end(chain):
        return ""
    later_events = [event for _, later in chain.parts[index + 1 :] for event in later.events]
    received = _steady_keys(history, chain, later_events)
    resumed = _steady_keys(history, chain, resumption.events)
    if chain.subject.kind == "all":  # the order among shards is free
        received, resumed = sorted(received, key=_by_target), sorted(resumed, key=_by_target)
    return "" if received == resumed else f"{name}: {_first_difference(received, resumed)}"


def _by_target(key: Key) -> tuple[str, str]:
    kind, target = key
    return target, kind


def _steady_keys(history: StreamHistory, chain: Chain, events: Iterable[Event]) -> list[Key]:
    """Return the events up to the last marker that every resumption repeats.

    A resumption need not repeat what was deleted or may have been unfollowed meanwhile, nor the
    markers of other subjects, some of which come before the chain's own.
    """
    keys = []
    for event in _events_to_the_end(history, chain.subject, events):
        if event.kind == "added":
            publish = history.publishes.get(event.number)
            if publish is None or publish.delete_began < NEVER or event.target in chain.paged_ids:
                continue
            if not certainly_belongs(history, chain.subject, publish, publish.began):
                continue
        is_marker = event.target in history.markers.values()
        if not is_marker or event.target in history.markers_of(chain.subject):
            keys.append(event.key)
    return keys


def _events_to_the_end(
    history: StreamHistory, subject: Subject, events: Iterable[Event]
) -> Iterator[Event]:
    """Yield events until all markers of the subject have come."""
    markers = history.markers_of(subject)
    for event in events:
        yield event
        markers = markers - {event.target}
        if not markers:
            return


def _first_difference(received: Sequence[Key], resumed: Sequence[Key]) -> str:
    for index, (before, now) in enumerate(zip(received, resumed, strict=False)):
        if before != now:
            return f"it yielded {before} and yields {now} now, {index} events after it"
    if len(received) > len(resumed):
        return f"it does not yield {received[len(resumed)]} any more"
    return f"it yields {resumed[len(received)]}, which it did not yield before"
