"""Validators of a history: each is a pure function that names what no stream may have told."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from tests.faults.history import NEVER, Publish
from tests.streams.history import (
    Chain,
    Event,
    Logged,
    Message,
    Replay,
    StreamHistory,
    Subject,
    Told,
    chains,
    log_name,
    whole,
)

#: How streams end that say where they were.
SAID_WHERE = ("UNAVAILABLE DRAINING", "UNAVAILABLE STREAM_EXPIRED")


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept, and whom and what it is about."""

    validator: str
    text: str
    subject: Subject | None = None
    numbers: tuple[int, ...] = ()


Found = Iterator[tuple[str, Subject | None, tuple[int, ...]]]


def validated(history: StreamHistory) -> list[Violation]:
    """All violations; none: the service kept its promises."""
    return [
        Violation(validator.__name__, *found)
        for validator in VALIDATORS
        for found in validator(history)
    ]


def nothing_is_wrong_at_once(history: StreamHistory) -> Found:
    """No answer that no fault excuses, no process that ends by itself, no stream left waiting."""
    for complaint in history.complaints:
        yield complaint, None, ()


def ordered(history: StreamHistory) -> Found:
    """Subscribers of one log agree about its order.

    Chains that share a token share the log. That of all is one log for each shard: what one actor
    published is in order there.
    """
    by_subject = defaultdict(list)
    for chain in chains(history):
        by_subject[chain.subject].append(chain)
    for subject, followers in by_subject.items():
        for one, other in combinations(followers, 2):
            if not one.tokens & other.tokens:
                continue
            for theirs, others in _lanes(history, one, other):
                if found := _contradiction(theirs, others):
                    text = f"{one.subscriber} and {other.subscriber} were told {subject} "
                    text += f"with {found[0]} and {found[1]} in different order"
                    yield text, subject, _numbers(history, found)
        if subject.kind == "all":
            for chain in followers:
                yield from _of_one_actor(history, chain)


def unique(history: StreamHistory) -> Found:
    """In a chain nothing is added twice or removed twice, nor added if its page showed it."""
    for chain in chains(history):
        counts = Counter(
            event_key(event) for event in chain.events if event.kind in {"added", "removed"}
        )
        for (kind, what), count in counts.items():
            if count > 1:
                text = f"{chain.subscriber} was told {count} times that {what} was {kind}"
                yield text, chain.subject, _numbers(history, [(kind, what)])
        if chain.page is None:
            continue
        first = chain.parts[0][0]
        shown = {item.what for item in chain.page.items}
        gone: set[str] = set()
        # A later stream, which resumed, knows of no page.
        for event in (e for told, message in chain.parts if told is first for e in message.events):
            if event.kind == "removed":
                gone.add(event.what)
            elif event.kind == "added" and event.what in shown - gone:
                text = f"{chain.subscriber} was told as added what its page showed: {event}"
                yield text, chain.subject, (event.number,)


def complete(history: StreamHistory) -> Found:
    """A chain that came to the end was told all that happened while it was there."""
    for chain in chains(history):
        if not whole(history, chain):
            continue
        told = {event_key(event) for event in chain.events}
        shown = {item.what for item in chain.page.items} if chain.page else set()
        lowest = min(map(int, shown), default=0) if chain.page and chain.page.full else 0
        since = chain.parts[0][0].began if chain.page else chain.since
        for one in history.publishes.values():
            known = one.ended < NEVER and not one.refused and one.began < history.settled_at
            if not known:
                continue
            there = str(one.id) in shown or ("added", str(one.id)) in told
            new = one.began >= chain.since or (chain.page is not None and one.id > lowest)
            certain = belongs(history, chain.subject, one, max(since, one.began))
            if new and certain and one.deleting == NEVER and not there:
                text = f"{chain.subscriber} was not told #{one.number} of {chain.subject}"
                yield text, chain.subject, (one.number,)
            retracted = one.deleted < NEVER and one.deleting >= chain.since
            certain = retracted and belongs(history, chain.subject, one, one.deleting)
            if certain and ("removed", str(one.id)) not in told:
                text = f"{chain.subscriber} was not told that #{one.number} was deleted"
                yield text, chain.subject, (one.number,)
        yield from _changes_missed(history, chain)


def resumable(history: StreamHistory) -> Found:
    """Each token resumes with exactly what came after its message; one of a lost log never does."""
    yield from _replayed(history, checkpoints=False)


def checkpoints_true(history: StreamHistory) -> Found:
    """The same for tokens of messages that only said where the stream was."""
    yield from _replayed(history, checkpoints=True)


def tokens_pass_nothing(history: StreamHistory) -> Found:
    """All that a log holds between the tokens of two messages was told by the second of them.

    Unless it was overtaken: what was deleted, or whose source may have been unfollowed.
    """
    for chain in chains(history):
        shown = {item.what for item in chain.page.items} if chain.page else set()
        before: tuple[Told, Message] | None = None
        for told, message in chain.parts:
            if before is None:
                since = told.token if not message.page else ""
            else:
                since = before[1].token if before[0] is told else told.token
            before = told, message
            if not since or {"created", "reset"} & {event.kind for event in message.events}:
                continue
            events = {event_key(event) for event in message.events}
            for entry in _logged_between(history, chain.subject, since, message.token):
                if entry.kind == "added":
                    one = history.published_as(entry.what)
                    overtaken = one is None or one.deleting < NEVER or entry.what in shown
                    if overtaken or not belongs(history, chain.subject, one, one.began):
                        continue
                if (entry.kind, entry.what) not in events:
                    text = f"{chain.subscriber} was given a token behind {entry.kind} {entry.what}"
                    text += f" of {chain.subject}, which it was not told"
                    yield text, chain.subject, _numbers(history, [(entry.kind, entry.what)])


def _logged_between(
    history: StreamHistory, subject: Subject, since: str, until: str
) -> Iterator[Logged]:
    """The entries behind one token and not behind another, of logs that hold both places."""
    first, last = (history.places.get((subject, token), []) for token in (since, until))
    for entries, begin, end in zip(history.logs.get(subject, []), first, last, strict=False):
        numbers = {entry.place: number for number, entry in enumerate(entries)}
        if begin in numbers and end in numbers:
            yield from entries[numbers[begin] + 1 : numbers[end] + 1]


def no_ghosts(history: StreamHistory) -> Found:
    """Nothing is added after it was removed, deleted or out of every feed that it came by."""
    for chain in chains(history):
        removed: set[str] = set()
        for told, message in chain.parts:
            shown = message.page.items if message.page else ()
            for event in (*shown, *message.events):
                if event.kind == "removed":
                    removed.add(event.what)
                if event.kind not in {"added", "shown"}:
                    continue
                one = history.publishes.get(event.number)
                if event.what in removed:
                    wrong = "after it was removed"
                elif one is None or one.refused:
                    wrong = "which was never published"
                elif one.deleted <= told.began:
                    wrong = "which was deleted before the stream began"
                elif not _possible(history, chain.subject, one, told.began, message.at):
                    wrong = "which does not belong there"
                else:
                    continue
                text = f"{chain.subscriber} was told {event} of {chain.subject}, {wrong}"
                yield text, chain.subject, (event.number,)


def ends_say_where(history: StreamHistory) -> Found:
    """A stream that its server ends says last where it was."""
    for told in history.told:
        # One of many may not have been added yet.
        # One that ends before it was resumed has nothing to say: its client has the token.
        silent = told.many or told.polled or bool(told.token)
        said = not told.messages[-1].events if told.messages else silent
        if told.how in SAID_WHERE and not said:
            text = f"{told.subscriber}'s stream ended with {told.how} and no checkpoint"
            yield text, told.subject, ()


def losses_have_a_cause(history: StreamHistory) -> Found:
    """No log is lost that nobody broke, unless logs are short."""
    if history.fragile:
        return
    for chain in chains(history):
        broken = any(name == log_name(chain.subject) for _, name in history.broken_logs)
        if chain.lost and not broken:
            yield f"{chain.subscriber} lost {chain.subject} without a cause", chain.subject, ()


VALIDATORS: Sequence[Callable[[StreamHistory], Found]] = (
    nothing_is_wrong_at_once,
    ordered,
    unique,
    complete,
    resumable,
    checkpoints_true,
    tokens_pass_nothing,
    no_ghosts,
    ends_say_where,
    losses_have_a_cause,
)


# Who follows whom.


def followed(history: StreamHistory, user: str, name: str, since: float) -> bool:
    """Whether an edge was certainly there from a moment on to the end."""
    before = [one for one in history.edge(user, name) if one.ended <= since]
    later = any(one.ended > since for one in history.edge(user, name))
    return bool(before) and before[-1].on and not later


def belongs(history: StreamHistory, subject: Subject, one: Publish, since: float) -> bool:
    """Whether what was published certainly belongs to a subject from a moment on to the end."""
    if subject.kind == "all" or subject.name in one.routes:
        return True
    return subject.kind == "feed" and any(
        followed(history, subject.name, name, since) for name in one.routes
    )


def _possible(
    history: StreamHistory, subject: Subject, one: Publish, began: float, ended: float
) -> bool:
    """Whether what was published may have belonged to a subject at some time between two."""
    if subject.kind == "all" or subject.name in one.routes:
        return True
    if subject.kind == "outbox":
        return False
    for name in one.routes:
        changes = [c for c in history.edge(subject.name, name) if c.began < ended]
        done = [c for c in changes if c.ended <= began]
        if any(c.on and c.ended > began for c in changes) or (done and done[-1].on):
            return True
    return False


# Orders.


def event_key(event: Event) -> tuple[str, str]:
    return event.kind, event.what


def _lanes(
    history: StreamHistory, one: Chain, other: Chain
) -> Iterator[tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """What two chains have in common, each in its order; that of all by actor."""
    both = []
    for chain in (one, other):
        by_actor = defaultdict(list)
        for event in chain.events:
            if event.kind in {"added", "removed"}:
                actor = history.actors.get(event.what, "") if chain.subject.kind == "all" else ""
                by_actor[actor].append(event_key(event))
        both.append(by_actor)
    for actor in both[0].keys() & both[1].keys():
        common = set(both[0][actor]).intersection(both[1][actor])
        ours, theirs = ([key for key in lane[actor] if key in common] for lane in both)
        yield ours, theirs


def _contradiction(
    ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Two neighbours of the one that stand the other way round in the other."""
    places = {key: place for place, key in enumerate(theirs)}
    for first, second in pairwise(dict.fromkeys(ours)):
        if places[first] > places[second]:
            return [first, second]
    return []


def _of_one_actor(history: StreamHistory, chain: Chain) -> Found:
    by_actor = defaultdict(list)
    for event in chain.events:
        if event.kind == "added" and event.number in history.publishes:
            one = history.publishes[event.number]
            by_actor[one.actor].append(one)
    for actor, told in by_actor.items():
        for before, after in combinations(told, 2):
            if after.ended < before.began:
                text = f"{chain.subscriber} was told of {actor} #{before.number} before the "
                text += f"earlier #{after.number}"
                yield text, chain.subject, (before.number, after.number)


def _numbers(history: StreamHistory, keys: Iterable[tuple[str, str]]) -> tuple[int, ...]:
    ids = {what for _, what in keys}
    return tuple(one.number for one in history.publishes.values() if str(one.id) in ids)


def _changes_missed(history: StreamHistory, chain: Chain) -> Found:
    """Follows and unfollows that were answered, and not told in their order."""
    if chain.subject.kind != "feed":
        return
    user = chain.subject.name
    for name in {one.followee for one in history.changes if one.follower == user}:
        told = iter(
            [
                event.kind == "followed"
                for event in chain.events
                if event.kind in {"followed", "unfollowed"} and event.what == name
            ]
        )
        for change in history.edge(user, name):
            made = change.ended < NEVER and (change.new or not change.on)
            if made and change.began >= chain.since and change.on not in told:
                what = "followed" if change.on else "unfollowed"
                text = f"{chain.subscriber} was not told that {user} {what} {name}"
                yield text, chain.subject, ()
                break


# Replays.


def _replayed(history: StreamHistory, *, checkpoints: bool) -> Found:
    there = list(chains(history))
    for replay in history.replays:
        for chain in there:
            if chain.subject != replay.subject or replay.token not in chain.tokens:
                continue
            place = max(
                number
                for number, (_, message) in enumerate(chain.parts)
                if message.token == replay.token
            )
            said = [m.events for _, m in chain.parts if m.token == replay.token]
            if checkpoints != (not said[-1]):
                continue
            if wrong := _differs(history, chain, place, replay):
                yield f"{chain.subscriber}: {wrong}", chain.subject, ()


def _differs(history: StreamHistory, chain: Chain, place: int, replay: Replay) -> str:
    """What is wrong with a replay of what a chain was told after a place; empty: nothing."""
    at = chain.parts[place][1].at
    where = f"the token of {at:.3f} on {replay.server}"
    if chain.lost:
        return "" if replay.lost else f"{where} resumes a log that was lost"
    if replay.lost:
        # A slow reader is told late: the message may have been on its way since its stream began.
        since = chain.parts[place][0].began
        broken = any(
            name == log_name(chain.subject) and when >= since for when, name in history.broken_logs
        )
        return "" if history.fragile or broken else f"{where} is lost without a cause"
    if not whole(history, chain):
        return ""
    after = [event for _, message in chain.parts[place + 1 :] for event in message.events]
    ours, theirs = (
        _steady(history, chain, _until_marked(history, chain.subject, events))
        for events in (after, replay.events)
    )
    if chain.subject.kind == "all":  # shards take turns
        if Counter(ours) != Counter(theirs):
            return f"{where}: {_first_difference(_sorted(ours), _sorted(theirs))}"
    elif ours != theirs:
        return f"{where}: {_first_difference(ours, theirs)}"
    return ""


def _sorted(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(keys, key=lambda key: (key[1], key[0]))


def _until_marked(history: StreamHistory, subject: Subject, events: Sequence[Event]) -> list[Event]:
    """What was told until all that there was had been told."""
    left = history.marked(subject)
    found = []
    for event in events:
        found.append(event)
        left = left - {event.what}
        if not left:
            break
    return found


def _steady(history: StreamHistory, chain: Chain, events: Iterable[Event]) -> list[tuple[str, str]]:
    """Those events that are told again as they were: not what came and went meanwhile."""
    shown = {item.what for item in chain.page.items} if chain.page else set()
    found = []
    for event in events:
        if event.kind == "added":
            one = history.publishes.get(event.number)
            if event.what in shown or one is None or one.deleting < NEVER:
                continue
            if not belongs(history, chain.subject, one, one.began):
                continue
        if _others_marker(history, chain.subject, event):
            continue
        found.append(event_key(event))
    return found


def _others_marker(history: StreamHistory, subject: Subject, event: Event) -> bool:
    """Whether an event is a marker of another subject, of which some come before one's own."""
    return event.what in history.markers.values() and event.what not in history.marked(subject)


def _first_difference(ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]) -> str:
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"it was told {one} there and is told {other} now, {number} events after it"
    if len(ours) > len(theirs):
        return f"it is not told {ours[len(theirs)]} any more"
    return f"it is told {theirs[len(ours)]}, which it was not then"
