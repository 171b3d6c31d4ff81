"""Judges of a history: each is a pure function that names what a service must not have done."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.history import NEVER, Change, History, Item, Publish, Walk

#: What a caller who retries UNAVAILABLE knows what to do with.
EXPECTED = {"OK", "UNAVAILABLE"}
#: Activities that one violation names at the most.
NAMED = 5


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept, and whom and what it is about."""

    judge: str
    text: str
    users: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


Found = Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]
Edges = dict[tuple[str, str], list[Change]]


def judged(history: History) -> list[Violation]:
    """All violations; none: the service kept its promises."""
    judges = (*DURING, *AT_REST) if history.rested else DURING
    return [Violation(judge.__name__, *found) for judge in judges for found in judge(history)]


def nothing_is_wrong_at_once(history: History) -> Found:
    """No answer that no fault excuses, no process that ends by itself."""
    for complaint in history.complaints:
        yield complaint, (), ()


def plain_callers_are_told_to_come_again(history: History) -> Found:
    """Whoever retries UNAVAILABLE gets over restarts: no call ends with any other code.

    A server that was killed says nothing: what gRPC makes of the connection is not its answer.
    """
    for one in history.outcomes:
        if one.code not in EXPECTED and not one.killed:
            when = f"from {one.began:.3f} to {one.ended:.3f}"
            yield f"{one.about} {when} ends with {one.code}: {one.details}", (), ()


def listings_descend(history: History) -> Found:
    """Ids on a walk are strictly descending: in order, and nothing twice."""
    listings = [
        (f"the feed of {walk.user}, {walk.how},", walk.user, walk.items)
        for walk in (*history.walks, *history.rest.feeds)
    ]
    listings += [
        (f"the outbox of {name}", name, items) for name, items in history.rest.outboxes.items()
    ]
    for what, user, items in listings:
        for above, below in pairwise(items):
            if above.id <= below.id:
                text = f"{what} has {above.id} before {below.id}"
                yield text, (user,), (above.number, below.number)


def one_activity_one_id(history: History) -> Found:
    """What was published once has one id, in every answer and listing; an id is one activity's.

    What a loss may have taken may come back by another id, but not beside the first.
    """
    items = [item for items in history.rest.outboxes.values() for item in items]
    items += [item for walk in history.rest.feeds for item in walk.items]
    if not history.losses:
        items += [item for walk in history.walks for item in walk.items]
    items += [
        Item(one.id, one.number)
        for one in history.publishes.values()
        if one.id and _sure(history, one.began, one.ended)
    ]
    items += [
        Item(one, number)
        for number, one in history.rest.repeated.items()
        if number in history.publishes and _kept(history, history.publishes[number])
    ]
    ids, numbers = defaultdict(set), defaultdict(set)
    for item in items:
        ids[item.number].add(item.id)
        numbers[item.id].add(item.number)
    for number, several in ids.items():
        if len(several) > 1:
            yield f"#{number} has the ids {sorted(several)}", (), (number,)
    for one, marks in numbers.items():
        if len(marks) > 1:
            yield f"{one} is the id of {sorted(marks)}", (), tuple(sorted(marks))


def an_actors_ids_ascend(history: History) -> Found:
    """What is published without a time stands above what its outbox holds, whatever clocks say."""
    for actor in {one.actor for one in history.publishes.values()}:
        own = [
            one
            for one in history.publishes.values()
            if one.actor == actor and one.followers and _kept(history, one)
        ]
        for one in own:
            before = [other for other in own if other.ended <= one.began and other.id > one.id]
            if one.fresh and before:
                above = before[0]
                text = f"#{one.number} has {one.id}, the earlier #{above.number} has {above.id}"
                yield text, (actor,), (above.number, one.number)


def nothing_foreign_is_read(history: History) -> Found:
    """A read shows nothing that was deleted, or whose sources were unfollowed, before it began."""
    edges = _edges(history)
    for walk in history.walks:
        sources = {
            name
            for (user, name), changes in edges.items()
            if user == walk.user and _possible(changes, walk)
        } | {walk.user}
        for item in walk.items:
            one = history.publishes.get(item.number)
            if one is None:
                wrong = "was never published"
            elif _sure(history, one.deleting, one.deleted) and one.deleted <= walk.began:
                wrong = "was deleted before"
            elif one.refused and not history.losses:
                wrong = "was refused"
            elif not sources.intersection(one.routes) and not history.losses:
                wrong = "has no source that may be followed"
            else:
                continue
            text = f"{walk.user} reads #{item.number} at {walk.began:.3f}, which {wrong}"
            yield text, (walk.user,), (item.number,)


def reads_never_go_back(history: History) -> Found:
    """A read shows what was delivered, or was read, before it began."""
    if history.losses:  # the state at rest is judged
        return
    edges = _edges(history)
    for user in {walk.user for walk in history.walks}:
        followed = {
            name: changes for (follower, name), changes in edges.items() if follower == user
        }
        seen: dict[int, Walk] = {}
        for walk in sorted(history.walks, key=lambda one: one.began):
            if walk.user != user:
                continue
            shown = {item.number for item in walk.items}
            if walk.complete:
                yield from _missed(history, walk, followed, seen, shown)
            seen |= dict.fromkeys(shown, walk)


def _missed(
    history: History,
    walk: Walk,
    followed: dict[str, list[Change]],
    seen: dict[int, Walk],
    shown: set[int],
) -> Found:
    """What a walk lacks, each with the reason for which it had to be there."""
    certain = {
        name: found for name, changes in followed.items() if (found := _certain(changes, walk))
    }
    for one in history.publishes.values():
        if one.number in shown or one.deleting < walk.ended or one.refused:
            continue
        routes = set(one.routes)
        made = certain.get(one.actor) if one.followers else None
        if one.followers and one.actor == walk.user and one.ended <= walk.began:
            why = "is its own"
        elif one.settled <= walk.began and routes & {walk.user, *certain}:
            why = "was in every feed"
        elif made and made.new and one.ended <= made.began:
            why = f"was in the outbox of {one.actor} when it was followed"
        elif one.number in seen and _followed_since(seen[one.number], walk, followed, routes):
            why = f"was read at {seen[one.number].began:.3f}"
        else:
            continue
        text = f"{walk.user} reads at {walk.began:.3f} without #{one.number}, which {why}"
        yield text, (walk.user,), (one.number,)


def _followed_since(
    first: Walk, walk: Walk, followed: dict[str, list[Change]], routes: Iterable[str]
) -> bool:
    """Whether no route was unfollowed between two walks."""
    return not any(
        not change.on and change.ended > first.began and change.began < walk.ended
        for route in routes
        for change in followed.get(route, ())
    )


def delivered_stays_delivered(history: History) -> Found:
    """What is said to be in every feed is never said to be on its way again."""
    if history.losses:
        return
    for state in history.states:
        one = history.publishes[state.number]
        if not state.settled and one.settled <= state.began and one.deleting > state.ended:
            text = f"#{state.number} is {state.name} at {state.began:.3f} after it was delivered"
            yield text, (), (state.number,)


def edges_are_as_told(history: History) -> Found:
    """At rest each follows whom its last acknowledged call says."""
    edges = _edges(history)
    pairs = {(user, name) for user, names in history.rest.following.items() for name in names}
    for user, name in sorted(pairs | set(edges)):
        changes = edges.get((user, name), [])
        if not all(_sure(history, one.began, one.ended) for one in changes):
            continue
        follows, should = (user, name) in pairs, bool(changes) and changes[-1].on
        if follows != should:
            text = f"{user} {'follows' if follows else 'does not follow'} {name} at rest"
            yield text, (user,), ()


def outboxes_hold_what_was_published(history: History) -> Found:
    """At rest an activity is in all of its outboxes or in none, as its last answer says."""
    held = defaultdict(set)
    for name, items in history.rest.outboxes.items():
        for item in items:
            held[item.number].add(name)
    for number in set(held) - set(history.publishes):
        yield f"#{number} was never published", (), (number,)
    for one in history.publishes.values():
        routes, where = set(one.routes), held[one.number]
        if where - routes:
            text = f"#{one.number} is in outboxes it was not for: {sorted(where - routes)}"
            yield text, (), (one.number,)
        elif where and (
            (one.refused and not history.losses) or _sure(history, one.deleting, one.deleted)
        ):
            yield f"#{one.number} was refused or deleted, and is there", (), (one.number,)
        elif routes - where and (where or (_kept(history, one) and one.deleting == NEVER)):
            text = f"#{one.number} is not in the outboxes {sorted(routes - where)}"
            yield text, (), (one.number,)


def feeds_are_the_query(history: History) -> Found:
    """At rest a feed, however it is stored, is the union of the outboxes of all its sources."""
    for walk in history.rest.feeds:
        sources = {walk.user} | history.rest.following[walk.user]
        truth = {item.number for name in sources for item in history.rest.outboxes.get(name, ())}
        shown = {item.number for item in walk.items}
        for numbers, what in ((truth - shown, "lacks"), (shown - truth, "has too much:")):
            if numbers:
                marks = tuple(sorted(numbers))[:NAMED]
                named = " ".join(f"#{mark}" for mark in marks)
                text = f"the feed of {walk.user}, {walk.how}, {what} {len(numbers)}: {named}"
                yield text, (walk.user,), marks
        for item in walk.items:
            one = history.publishes.get(item.number)
            if one is not None and item.number in truth:
                via = tuple(sorted(sources.intersection(one.routes)))
                if item.via != via:
                    text = f"{walk.user} has #{item.number} via {item.via}, not {via} ({walk.how})"
                    yield text, (walk.user,), (item.number,)


def stored_feeds_are_verified(history: History) -> Found:
    """VerifyFeed finds no difference at rest."""
    for one in history.rest.differences:
        text = f"VerifyFeed of {one.user}: #{one.number} ({one.id}) is {one.kind}"
        yield text, (one.user,), (one.number,)


DURING: Sequence[Callable[[History], Found]] = (
    nothing_is_wrong_at_once,
    plain_callers_are_told_to_come_again,
    listings_descend,
    one_activity_one_id,
    an_actors_ids_ascend,
    nothing_foreign_is_read,
    reads_never_go_back,
    delivered_stays_delivered,
)
AT_REST: Sequence[Callable[[History], Found]] = (
    edges_are_as_told,
    outboxes_hold_what_was_published,
    feeds_are_the_query,
    stored_feeds_are_verified,
)


def _sure(history: History, began: float, ended: float) -> bool:
    """Whether a call's effect is certain: it was answered, and no loss can have taken it."""
    return ended < NEVER and all(
        ended <= loss.kept or began >= loss.restored for loss in history.losses
    )


def _kept(history: History, one: Publish) -> bool:
    return not one.refused and _sure(history, one.began, one.ended)


def _edges(history: History) -> Edges:
    """The changes of each edge, in order."""
    edges: Edges = defaultdict(list)
    for change in sorted(history.changes, key=lambda one: one.began):
        edges[change.follower, change.followee].append(change)
    return edges


def _certain(changes: Sequence[Change], walk: Walk) -> Change | None:
    """The follow by which an edge was certainly there during all of a walk."""
    relevant = [one for one in changes if one.began < walk.ended]
    if not relevant or not relevant[-1].on or relevant[-1].ended > walk.began:
        return None
    unknown = any(not one.on and one.ended == NEVER for one in relevant)
    return None if unknown else relevant[-1]


def _possible(changes: Sequence[Change], walk: Walk) -> bool:
    """Whether an edge may have been there at some time of a walk."""
    relevant = [one for one in changes if one.began < walk.ended]
    done = [one for one in relevant if one.ended <= walk.began]
    return any(one.on and one.ended > walk.began for one in relevant) or (
        bool(done) and done[-1].on
    )
