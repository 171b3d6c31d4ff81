"""Each validator accepts right histories, and notices each way in which a history can be wrong."""

from collections.abc import Sequence

import pytest

from tests.faults.history import CallHistory, DeliveryAnswer, Difference, Outcome
from tests.faults.story import story
from tests.faults.validators import violations_of
from tests.harness.examples import follow, publish, unfollow
from tests.harness.history import NEVER, EdgeChange, Item, Loss, Publish, Walk

Event = Publish | EdgeChange | Walk | DeliveryAnswer | Loss


def walk(began: float, *numbers: int, user: str = "bob") -> Walk:
    return Walk(user, began, began + 0.1, items(*numbers))


def items(*numbers: int, via: Sequence[str] = ("alice",)) -> list[Item]:
    return [Item(100 * number, number, tuple(via)) for number in numbers]


def history_of(*events: Event) -> CallHistory:
    """Return a history of events, with the final state that they lead to."""
    history = CallHistory()
    for event in events:
        match event:
            case Publish():
                history.publishes[event.number] = event
            case EdgeChange():
                history.changes.append(event)
            case Walk():
                history.walks.append(event)
            case DeliveryAnswer():
                history.delivery_answers.append(event)
            case Loss():
                history.losses.append(event)
    _fill_final_state(history)
    return history


def _fill_final_state(history: CallHistory) -> None:
    final = history.final
    kept = [
        stored
        for stored in sorted(history.publishes.values(), key=lambda stored: -stored.id)
        if stored.delete_ended == NEVER and stored.is_acknowledged
    ]
    final.following = {"alice": set(), "bob": set()}
    for change in history.changes:
        if change.ended < NEVER and change.is_follow:
            final.following[change.follower].add(change.followee)
        elif change.ended < NEVER:
            final.following[change.follower].discard(change.followee)
    for entity in {"alice", *(entity for stored in kept for entity in stored.outboxes)}:
        final.outboxes[entity] = [
            Item(stored.id, stored.number) for stored in kept if entity in stored.outboxes
        ]
    for user, followees in final.following.items():
        sources = followees | {user}
        feed = [
            Item(stored.id, stored.number, tuple(sorted(sources.intersection(stored.outboxes))))
            for stored in kept
            if sources.intersection(stored.outboxes)
        ]
        final.feeds.append(Walk(user, 90, 91, feed, occasion="in the final state"))


def objectors(history: CallHistory) -> set[str]:
    """Return the names of the validators that object to a history."""
    return {violation.validator for violation in violations_of(history)}


#: Histories that keep every promise.
RIGHT: dict[str, Sequence[Event]] = {
    "no event": (),
    "read after its delivery": (follow(1), publish(1, 2, delivered=2.1), walk(3, 1)),
    "not read while it is queued": (follow(1), publish(1, 2), walk(3), walk(4, 1), walk(5, 1)),
    "not read during its deletion": (
        follow(1),
        publish(1, 2, delivered=2.1, delete_began=3.05, delete_ended=3.2),
        walk(3),
        walk(4),
    ),
    "read before its answer": (follow(1), publish(1, 2, ended=5), walk(3, 1), walk(4, 1)),
    "read although its publish was not answered": (
        follow(1),
        publish(1, 2, ended=NEVER),
        walk(3, 1),
    ),
    "not read during the follow of its actor": (
        publish(1, 0, delivered=0.1),
        follow(2, 4),
        walk(3),
    ),
    "read after the follow of its actor": (publish(1, 0), follow(2), walk(3, 1)),
    "not read after the unfollow of its actor": (
        *(follow(1), publish(1, 2, delivered=2.1), walk(3, 1), unfollow(4), walk(5)),
    ),
    "read or not after an unfollow that was not answered": (
        *(follow(1), publish(1, 2, delivered=2.1), walk(3, 1)),
        *(unfollow(4, NEVER), walk(5), walk(6, 1)),
    ),
    "read, and not read after an unfollow of its only source": (
        *(follow(1), publish(1, 2, to_followers=False, to=("carol",))),
        *(follow(3, followee="carol"), walk(4, 1)),
        *(unfollow(5, followee="carol"), walk(6)),
    ),
    "not read by a walk that was given up": (
        *(follow(1), publish(1, 2, delivered=2.1)),
        Walk("bob", 3, 4, [], is_complete=False),
    ),
    "published with a time below an earlier id": (publish(2, 1), publish(1, 2, is_untimed=False)),
    "lost with the last writes of the store": (publish(1, 1), Loss(kept_until=0.5, restored=3)),
    "queued and later delivered": (
        publish(1, 1, delivered=3.1),
        DeliveryAnswer(1, 2, 2.1, is_delivered=False, state="QUEUED"),
        DeliveryAnswer(1, 3, 3.1, is_delivered=True, state="DELIVERED"),
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_history_has_no_violation(case: str) -> None:
    assert violations_of(history_of(*RIGHT[case])) == []


#: Histories in which a read lacks activity 1.
WRONG_READS: dict[str, Sequence[Event]] = {
    "not read after its delivery": (follow(1), publish(1, 2, delivered=2.1), walk(3)),
    "not read by its own actor": (publish(1, 2), walk(3, user="alice")),
    "not read after the follow of its actor": (publish(1, 0), follow(2), walk(3)),
    "read, and later not read": (follow(1), publish(1, 2), walk(3, 1), walk(4)),
    "read before its answer, and later not read": (
        *(follow(1), publish(1, 2, ended=NEVER), walk(3, 1), walk(4)),
    ),
    "not read by the user to whom it was delivered": (
        *(follow(1), publish(1, 2, actor="dave", to=("alice",), delivered=2.1), walk(3)),
    ),
}


@pytest.mark.parametrize("case", WRONG_READS)
def test_read_that_lacks_an_activity_is_a_violation(case: str) -> None:
    (violation,) = violations_of(history_of(*WRONG_READS[case]))
    assert violation.validator == "reads_never_go_back"
    assert violation.numbers == (1,)


#: Histories in which a read shows activity 1, which it must not show.
FOREIGN: dict[str, Sequence[Event]] = {
    "never published": (follow(1), walk(3, 1)),
    "refused": (follow(1), publish(1, 2, is_refused=True), walk(3, 1)),
    "deleted": (follow(1), publish(1, 2, delete_began=2.5, delete_ended=2.9), walk(3, 1)),
    "published by an actor whom the reader does not follow": (publish(1, 2), walk(3, 1)),
    "published by an actor whom the reader unfollowed": (
        follow(0),
        publish(1, 1),
        unfollow(2),
        walk(3, 1),
    ),
    "published by an actor whom nobody follows": (
        follow(1),
        publish(1, 2, actor="dave"),
        walk(3, 1),
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_read_that_shows_a_foreign_activity_is_a_violation(case: str) -> None:
    assert objectors(history_of(*FOREIGN[case])) == {"reads_show_nothing_foreign"}


@pytest.mark.parametrize("shown", [(1, 2), (2, 2, 1)])
def test_walk_whose_ids_do_not_descend_is_a_violation(shown: tuple[int, ...]) -> None:
    history = history_of(follow(0), publish(1, 1), publish(2, 2), walk(3, *shown))
    assert "listings_descend" in objectors(history)


def test_outbox_whose_ids_do_not_descend_is_a_violation() -> None:
    history = history_of(publish(1, 1), publish(2, 2))
    history.final.outboxes["alice"].reverse()
    assert objectors(history) == {"listings_descend"}


def test_publish_with_two_ids_is_a_violation() -> None:
    history = history_of(follow(1), publish(1, 2), walk(3, 1))
    history.walks[0].items = [Item(99, 1)]
    assert objectors(history) == {"each_activity_has_one_id"}


def test_repeated_publish_with_another_id_is_a_violation() -> None:
    history = history_of(publish(1, 2))
    history.final.repeated = {1: 99}
    assert objectors(history) == {"each_activity_has_one_id"}


def test_id_of_two_activities_is_a_violation() -> None:
    history = history_of(publish(1, 2, id=200), publish(2, 1, actor="bob"))
    assert "each_activity_has_one_id" in objectors(history)


def test_later_publish_with_a_lower_id_is_a_violation() -> None:
    assert objectors(history_of(publish(2, 1), publish(1, 2))) == {"ids_of_an_actor_ascend"}


def test_delivered_activity_that_is_queued_again_is_a_violation() -> None:
    queued = DeliveryAnswer(1, 2, 2.1, is_delivered=False, state="QUEUED")
    history = history_of(publish(1, 1, delivered=1.1), queued)
    assert objectors(history) == {"delivered_stays_delivered"}


def test_final_state_is_not_judged_if_the_service_does_not_become_quiet() -> None:
    history = history_of(follow(1))
    history.final.following["bob"] = set()
    history.became_quiet = False
    assert objectors(history) == set()


def test_complaint_is_a_violation() -> None:
    history = history_of()
    history.complaints = ["a server ended by itself"]
    assert objectors(history) == {"no_complaint_was_noted"}


@pytest.mark.parametrize(
    ("code", "server_was_killed", "is_right"),
    [
        ("OK", False, True),
        ("UNAVAILABLE", False, True),
        ("CANCELLED", False, False),
        ("INTERNAL", False, False),
        ("CANCELLED", True, True),
    ],
)
def test_plain_caller_may_only_get_unavailable_unless_the_server_was_killed(
    code: str, *, server_was_killed: bool, is_right: bool
) -> None:
    history = history_of()
    outcome = Outcome("GetFeed of server 0", 1, 2, code, server_was_killed=server_was_killed)
    history.outcomes = [outcome]
    assert objectors(history) == (set() if is_right else {"plain_callers_get_only_unavailable"})


@pytest.mark.parametrize(
    ("changes", "follows"), [((follow(1),), False), ((follow(1), unfollow(2)), True), ((), True)]
)
def test_edge_that_differs_from_its_last_change_is_a_violation(
    changes: Sequence[EdgeChange], *, follows: bool
) -> None:
    history = history_of(*changes)
    history.final.following["bob"] = {"alice"} if follows else set()
    assert objectors(history) == {"edges_are_as_acknowledged"}


@pytest.mark.parametrize("loss", [None, Loss(kept_until=0.5, restored=3)])
def test_edge_whose_last_change_may_be_undone_may_exist_or_not(loss: Loss | None) -> None:
    change = follow(1) if loss else follow(1, NEVER)
    for followees in ({"alice"}, set()):
        history = history_of(change, *([loss] if loss else []))
        history.final.following["bob"] = set(followees)
        assert objectors(history) == set()


def remove(number: int, outbox: str, history: CallHistory) -> CallHistory:
    """Remove an activity from an outbox of the final state."""
    listed = history.final.outboxes[outbox]
    history.final.outboxes[outbox] = [item for item in listed if item.number != number]
    return history


def test_acknowledged_publish_that_is_missing_is_a_violation() -> None:
    history = remove(1, "alice", history_of(publish(1, 1)))
    history.final.feeds = []
    assert objectors(history) == {"outboxes_hold_acknowledged_publishes"}


@pytest.mark.parametrize("ended", [1.1, NEVER])
def test_publish_in_only_one_of_its_outboxes_is_a_violation(ended: float) -> None:
    history = history_of(publish(1, 1, to=("carol",)))
    history.publishes[1].ended = ended
    assert objectors(remove(1, "carol", history)) == {"outboxes_hold_acknowledged_publishes"}


def test_publish_without_an_answer_may_exist_or_not() -> None:
    assert objectors(history_of(publish(1, 1, ended=NEVER, id=0))) == set()
    history = history_of(publish(1, 1))
    history.publishes[1].ended, history.publishes[1].id = NEVER, 0
    assert objectors(history) == set()


@pytest.mark.parametrize("fields", [{"is_refused": True}, {"delete_began": 2, "delete_ended": 3}])
def test_refused_or_deleted_publish_that_is_stored_is_a_violation(
    fields: dict[str, object],
) -> None:
    history = history_of(publish(1, 1, **fields))
    history.final.outboxes["alice"] = items(1)
    history.final.feeds = []
    assert objectors(history) == {"outboxes_hold_acknowledged_publishes"}


@pytest.mark.parametrize("entity", ["bob", "alice"])
def test_publish_in_a_foreign_outbox_is_a_violation(entity: str) -> None:
    history = history_of(publish(1, 1, actor="dave"))
    history.final.outboxes[entity] = items(1)
    history.final.feeds = []
    assert objectors(history) == {"outboxes_hold_acknowledged_publishes"}


def test_activity_that_was_never_published_is_a_violation() -> None:
    history = history_of()
    history.final.outboxes["alice"] = items(1)
    history.final.feeds = []
    assert objectors(history) == {"outboxes_hold_acknowledged_publishes"}


@pytest.mark.parametrize(("number", "may_be_lost"), [(1, False), (2, True), (3, False)])
def test_loss_excuses_only_publishes_between_the_kept_part_and_the_return_of_the_store(
    number: int, *, may_be_lost: bool
) -> None:
    loss = Loss(kept_until=1.5, restored=4)
    history = history_of(publish(1, 1), publish(2, 2), publish(3, 5), loss)
    history.final.feeds = []
    objections = objectors(remove(number, "alice", history))
    assert objections == (set() if may_be_lost else {"outboxes_hold_acknowledged_publishes"})


@pytest.mark.parametrize("shown", [(), (1,), (2, 1, 0)])
def test_feed_that_differs_from_its_sources_is_a_violation(shown: tuple[int, ...]) -> None:
    history = history_of(follow(0), publish(1, 1), publish(2, 2))
    (feed,) = (walk for walk in history.final.feeds if walk.user == "bob")
    feed.items = items(*shown)
    assert objectors(history) - {"each_activity_has_one_id"} == {"feeds_are_the_union_of_outboxes"}


def test_feed_with_wrong_sources_of_an_item_is_a_violation() -> None:
    history = history_of(follow(0), publish(1, 1))
    (feed,) = (walk for walk in history.final.feeds if walk.user == "bob")
    feed.items = items(1, via=("bob",))
    assert objectors(history) == {"feeds_are_the_union_of_outboxes"}


def test_difference_of_a_stored_feed_is_a_violation() -> None:
    history = history_of(publish(1, 1))
    history.final.differences = [Difference("alice", "MISSING", 100, 1)]
    assert objectors(history) == {"stored_feeds_are_verified"}


def test_story_holds_the_calls_of_the_users_and_publishes() -> None:
    history = history_of(follow(1), publish(1, 2), publish(2, 2.5), walk(3), walk(3.5, user="eve"))
    assert story(history, ["bob"], [1]) == [
        "    1.000  bob follows alice (until 1.100)",
        "    2.000  alice publishes #1 (until 2.100, id 100)",
        "    3.000  bob reads 0, with none of these (until 3.100, during the run)",
        "   90.000  bob reads 2, with #1 (until 91.000, in the final state)",
    ]
