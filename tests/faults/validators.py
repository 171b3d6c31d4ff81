"""Validators of a history of calls: each yields what a service must not have done."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.history import CallHistory
from tests.harness.history import NEVER, EdgeChange, Item, Publish, Walk, may_follow
from tests.harness.validation import (
    Findings,
    Violation,
    find_violations,
    no_complaint_was_noted,
)

#: Codes that a caller who retries UNAVAILABLE can handle.
EXPECTED_CODES = {"OK", "UNAVAILABLE"}
#: Most activities that one violation names.
MAX_NAMED = 5

Users = tuple[str, ...]


def violations_of(history: CallHistory) -> list[Violation[Users]]:
    """Return all violations; judge the final state only if the service became quiet."""
    validators = (*DURING_RUN, *FINAL_STATE) if history.became_quiet else DURING_RUN
    return find_violations(history, validators)


def plain_callers_get_only_unavailable(history: CallHistory) -> Findings[Users]:
    """A caller who retries UNAVAILABLE survives restarts: no call ends with any other code.

    A server that was killed gives no answer: gRPC makes the code itself when a connection breaks.
    """
    for outcome in history.outcomes:
        if outcome.code not in EXPECTED_CODES and not outcome.server_was_killed:
            period = f"from {outcome.began:.3f} to {outcome.ended:.3f}"
            yield f"{outcome.call} {period} ends with {outcome.code}: {outcome.details}", (), ()


def listings_descend(history: CallHistory) -> Findings[Users]:
    """The ids in a listing strictly descend: they are in order, and none comes twice."""
    listings = [
        (f"the feed of {walk.user}, {walk.occasion},", walk.user, walk.items)
        for walk in history.all_walks
    ]
    listings += [
        (f"the outbox of {entity}", entity, items)
        for entity, items in history.final.outboxes.items()
    ]
    for name, entity, items in listings:
        for above, below in pairwise(items):
            if above.id <= below.id:
                text = f"{name} has {above.id} before {below.id}"
                yield text, (entity,), (above.number, below.number)


def each_activity_has_one_id(history: CallHistory) -> Findings[Users]:
    """An activity has one id in every answer and listing, and an id belongs to one activity.

    An activity that a loss may have taken may get another id, but must not keep the first one too.
    """
    ids, numbers = defaultdict(set), defaultdict(set)
    for item in _identified_items(history):
        ids[item.number].add(item.id)
        numbers[item.id].add(item.number)
    for number, ids_of_number in ids.items():
        if len(ids_of_number) > 1:
            yield f"#{number} has the ids {sorted(ids_of_number)}", (), (number,)
    for activity_id, numbers_of_id in numbers.items():
        if len(numbers_of_id) > 1:
            text = f"{activity_id} is the id of {sorted(numbers_of_id)}"
            yield text, (), tuple(sorted(numbers_of_id))


def _identified_items(history: CallHistory) -> Iterator[Item]:
    """Yield all pairs of an id and a number that must agree."""
    for items in history.final.outboxes.values():
        yield from items
    for walk in history.final.feeds if history.losses else history.all_walks:
        yield from walk.items
    for publish in history.publishes.values():
        if publish.id and history.is_certain(publish.began, publish.ended):
            yield Item(publish.id, publish.number)
    for number, activity_id in history.final.repeated.items():
        if number in history.publishes and history.is_kept(history.publishes[number]):
            yield Item(activity_id, number)


def ids_of_an_actor_ascend(history: CallHistory) -> Findings[Users]:
    """A publish without a time gets an id above all ids in the outbox, whatever the clocks say."""
    by_actor = defaultdict(list)
    for publish in history.publishes.values():
        if publish.to_followers and history.is_kept(publish):
            by_actor[publish.actor].append(publish)
    for actor, publishes in by_actor.items():
        for publish in publishes:
            above = [
                earlier
                for earlier in publishes
                if earlier.ended <= publish.began and earlier.id > publish.id
            ]
            if publish.is_untimed and above:
                text = f"#{publish.number} has {publish.id}, "
                text += f"the earlier #{above[0].number} has {above[0].id}"
                yield text, (actor,), (above[0].number, publish.number)


def reads_show_nothing_foreign(history: CallHistory) -> Findings[Users]:
    """A read shows no activity that was deleted, or unfollowed with all its sources, before it."""
    for walk in history.walks:
        sources = {
            followee
            for (follower, followee), changes in history.edges.items()
            if follower == walk.user and may_follow(changes, walk.began, walk.ended)
        } | {walk.user}
        for item in walk.items:
            publish = history.publishes.get(item.number)
            if publish is None:
                mistake = "was never published"
            elif (
                history.is_certain(publish.delete_began, publish.delete_ended)
                and publish.delete_ended <= walk.began
            ):
                mistake = "was deleted before"
            elif publish.is_refused and not history.losses:
                mistake = "was refused"
            elif not sources.intersection(publish.outboxes) and not history.losses:
                mistake = "has no source that may be followed"
            else:
                continue
            text = f"{walk.user} reads #{item.number} at {walk.began:.3f}, which {mistake}"
            yield text, (walk.user,), (item.number,)


def reads_never_go_back(history: CallHistory) -> Findings[Users]:
    """A read shows every activity that was delivered, or that the user read, before it began."""
    if history.losses:  # then only the final state is judged
        return
    for user in {walk.user for walk in history.walks}:
        edges = {
            followee: changes
            for (follower, followee), changes in history.edges.items()
            if follower == user
        }
        last_reads: dict[int, Walk] = {}
        for walk in sorted(history.walks, key=lambda walk: walk.began):
            if walk.user != user:
                continue
            shown = {item.number for item in walk.items}
            if walk.is_complete:
                yield from _missing_items(history, walk, edges, last_reads, shown)
            last_reads |= dict.fromkeys(shown, walk)


def _missing_items(
    history: CallHistory,
    walk: Walk,
    edges: Mapping[str, Sequence[EdgeChange]],
    last_reads: Mapping[int, Walk],
    shown: set[int],
) -> Findings[Users]:
    """Yield what a walk lacks, each with the reason why the walk must show it."""
    follows = {
        followee: follow
        for followee, changes in edges.items()
        if (follow := _certain_follow(changes, walk))
    }
    for publish in history.publishes.values():
        if publish.number in shown or publish.delete_began < walk.ended or publish.is_refused:
            continue
        outboxes = set(publish.outboxes)
        follow = follows.get(publish.actor) if publish.to_followers else None
        last_read = last_reads.get(publish.number)
        if publish.to_followers and publish.actor == walk.user and publish.ended <= walk.began:
            why = "is its own"
        elif publish.delivered <= walk.began and outboxes & {walk.user, *follows}:
            why = "was in every feed"
        elif follow and follow.made_edge and publish.ended <= follow.began:
            why = f"was in the outbox of {publish.actor} at the follow"
        elif last_read and _stayed_followed(last_read, walk, edges, outboxes):
            why = f"was read at {last_read.began:.3f}"
        else:
            continue
        text = f"{walk.user} reads at {walk.began:.3f} without #{publish.number}, which {why}"
        yield text, (walk.user,), (publish.number,)


def _certain_follow(changes: Sequence[EdgeChange], walk: Walk) -> EdgeChange | None:
    """Return the follow by which an edge certainly existed during all of a walk."""
    earlier = [change for change in changes if change.began < walk.ended]
    if not earlier or not earlier[-1].is_follow or earlier[-1].ended > walk.began:
        return None
    is_unknown = any(not change.is_follow and change.ended == NEVER for change in earlier)
    return None if is_unknown else earlier[-1]


def _stayed_followed(
    first: Walk,
    walk: Walk,
    edges: Mapping[str, Sequence[EdgeChange]],
    followees: Iterable[str],
) -> bool:
    """Return whether the user unfollowed none of the followees between two walks."""
    return not any(
        not change.is_follow and change.ended > first.began and change.began < walk.ended
        for followee in followees
        for change in edges.get(followee, ())
    )


def delivered_stays_delivered(history: CallHistory) -> Findings[Users]:
    """An activity that is in every feed is never said to be on its way again."""
    if history.losses:
        return
    for answer in history.delivery_answers:
        publish = history.publishes[answer.number]
        was_delivered = publish.delivered <= answer.began
        if not answer.is_delivered and was_delivered and publish.delete_began > answer.ended:
            text = f"#{answer.number} is {answer.state} at {answer.began:.3f}"
            yield f"{text} after it was delivered", (), (answer.number,)


def edges_are_as_acknowledged(history: CallHistory) -> Findings[Users]:
    """In the final state an edge exists if its last acknowledged change is a follow."""
    following = history.final.following
    pairs = {(user, followee) for user, followees in following.items() for followee in followees}
    for user, followee in sorted(pairs | set(history.edges)):
        changes = history.edges.get((user, followee), [])
        if not all(history.is_certain(change.began, change.ended) for change in changes):
            continue
        does_follow = (user, followee) in pairs
        if does_follow != (bool(changes) and changes[-1].is_follow):
            verb = "follows" if does_follow else "does not follow"
            yield f"{user} {verb} {followee} in the final state", (user,), ()


def outboxes_hold_acknowledged_publishes(history: CallHistory) -> Findings[Users]:
    """In the final state an activity is in all of its outboxes or in none, as its answer says."""
    holders = defaultdict(set)
    for entity, items in history.final.outboxes.items():
        for item in items:
            holders[item.number].add(entity)
    for number in set(holders) - set(history.publishes):
        yield f"#{number} was never published", (), (number,)
    for publish in history.publishes.values():
        if mistake := _outbox_mistake(history, publish, holders[publish.number]):
            yield f"#{publish.number} {mistake}", (), (publish.number,)


def _outbox_mistake(history: CallHistory, publish: Publish, holders: set[str]) -> str:
    """Return what is wrong with the outboxes that hold a publish; empty if nothing is."""
    outboxes = set(publish.outboxes)
    if foreign := holders - outboxes:
        return f"is in outboxes it was not for: {sorted(foreign)}"
    is_refused = publish.is_refused and not history.losses
    if holders and (is_refused or history.is_certain(publish.delete_began, publish.delete_ended)):
        return "was refused or deleted, and is there"
    missing = outboxes - holders
    must_exist = history.is_kept(publish) and publish.delete_began == NEVER
    if missing and (holders or must_exist):
        return f"is not in the outboxes {sorted(missing)}"
    return ""


def feeds_are_the_union_of_outboxes(history: CallHistory) -> Findings[Users]:
    """In the final state a feed, cold or warm, is the union of the outboxes of all its sources."""
    for walk in history.final.feeds:
        sources = {walk.user} | history.final.following[walk.user]
        expected = {
            item.number for source in sources for item in history.final.outboxes.get(source, ())
        }
        shown = {item.number for item in walk.items}
        for numbers, mistake in ((expected - shown, "lacks"), (shown - expected, "has too much:")):
            if numbers:
                named = tuple(sorted(numbers))[:MAX_NAMED]
                names = " ".join(f"#{number}" for number in named)
                text = (
                    f"the feed of {walk.user}, {walk.occasion}, {mistake} {len(numbers)}: {names}"
                )
                yield text, (walk.user,), named
        for item in walk.items:
            publish = history.publishes.get(item.number)
            if publish is not None and item.number in expected:
                via = tuple(sorted(sources.intersection(publish.outboxes)))
                if item.via != via:
                    text = f"{walk.user} has #{item.number} via {item.via}, not {via}"
                    yield f"{text} ({walk.occasion})", (walk.user,), (item.number,)


def stored_feeds_are_verified(history: CallHistory) -> Findings[Users]:
    """VerifyFeed reports no difference in the final state."""
    for difference in history.final.differences:
        text = f"VerifyFeed of {difference.user}: #{difference.number} ({difference.id}) "
        yield f"{text}is {difference.kind}", (difference.user,), (difference.number,)


#: Validators of what the service did during the run.
DURING_RUN: Sequence[Callable[[CallHistory], Findings[Users]]] = (
    no_complaint_was_noted,
    plain_callers_get_only_unavailable,
    listings_descend,
    each_activity_has_one_id,
    ids_of_an_actor_ascend,
    reads_show_nothing_foreign,
    reads_never_go_back,
    delivered_stays_delivered,
)
#: Validators of the final state of a quiet service.
FINAL_STATE: Sequence[Callable[[CallHistory], Findings[Users]]] = (
    edges_are_as_acknowledged,
    outboxes_hold_acknowledged_publishes,
    feeds_are_the_union_of_outboxes,
    stored_feeds_are_verified,
)
