"""Each judge is shown a history that is right, and one for each way in which it can be wrong."""

from collections.abc import Sequence

import pytest

from tests.faults.history import (
    NEVER,
    Change,
    Difference,
    History,
    Item,
    Loss,
    Outcome,
    Publish,
    State,
    Walk,
)
from tests.faults.judge import judged
from tests.faults.story import story


def publish(number: int, began: float, **fields: object) -> Publish:
    """By alice, answered after 0.1 s with an id that is a hundred times its number."""
    told: dict[str, object] = {
        "actor": "alice",
        "to": (),
        "followers": True,
        "fresh": True,
        "ended": began + 0.1,
        "id": 100 * number,
    }
    return Publish(number=number, began=began, **(told | fields))  # type: ignore[arg-type]


def walk(began: float, *numbers: int, user: str = "bob") -> Walk:
    return Walk(user, began, began + 0.1, items(*numbers))


def items(*numbers: int, via: Sequence[str] = ("alice",)) -> list[Item]:
    return [Item(100 * number, number, tuple(via)) for number in numbers]


def follows(began: float, ended: float | None = None, *, user: str = "bob") -> Change:
    ended = began + 0.1 if ended is None else ended
    return Change(user, "alice", on=True, began=began, ended=ended, new=True)


def unfollows(began: float, ended: float | None = None) -> Change:
    ended = began + 0.1 if ended is None else ended
    return Change("bob", "alice", on=False, began=began, ended=ended)


def history(*what: Publish | Change | Walk | State | Loss) -> History:
    """With the state of rest that its publishes and edges come to."""
    found = History()
    for one in what:
        match one:
            case Publish():
                found.publishes[one.number] = one
            case Change():
                found.changes.append(one)
            case Walk():
                found.walks.append(one)
            case State():
                found.states.append(one)
            case Loss():
                found.losses.append(one)
    _settle(found)
    return found


def _settle(found: History) -> None:
    """Fills in the state of rest."""
    there = [
        one
        for one in sorted(found.publishes.values(), key=lambda one: -one.id)
        if one.deleted == NEVER and not one.refused and one.ended < NEVER
    ]
    rest = found.rest
    rest.following = {"alice": set(), "bob": set()}
    for change in found.changes:
        if change.ended < NEVER and change.on:
            rest.following[change.follower].add(change.followee)
        elif change.ended < NEVER:
            rest.following[change.follower].discard(change.followee)
    for name in {"alice", *(name for one in there for name in one.routes)}:
        rest.outboxes[name] = [Item(one.id, one.number) for one in there if name in one.routes]
    for user, names in rest.following.items():
        sources = names | {user}
        shown = [
            Item(one.id, one.number, tuple(sorted(sources.intersection(one.routes))))
            for one in there
            if sources.intersection(one.routes)
        ]
        rest.feeds.append(Walk(user, 90, 91, shown, how="at rest"))


def judges(found: History) -> set[str]:
    """Which judges object."""
    return {violation.judge for violation in judged(found)}


RIGHT = {
    "nothing": (),
    "read when it was delivered": (follows(1), publish(1, 2, settled=2.1), walk(3, 1)),
    "not read when it is queued": (follows(1), publish(1, 2), walk(3), walk(4, 1), walk(5, 1)),
    "not read when it is being deleted": (
        follows(1),
        publish(1, 2, settled=2.1, deleting=3.05, deleted=3.2),
        walk(3),
        walk(4),
    ),
    "read before its answer": (follows(1), publish(1, 2, ended=5), walk(3, 1), walk(4, 1)),
    "read though nobody answered": (follows(1), publish(1, 2, ended=NEVER), walk(3, 1)),
    "not read while it is being followed": (publish(1, 0, settled=0.1), follows(2, 4), walk(3)),
    "read when followed": (publish(1, 0), follows(2), walk(3, 1)),
    "not read after unfollowing": (
        *(follows(1), publish(1, 2, settled=2.1), walk(3, 1), unfollows(4), walk(5)),
    ),
    "read or not while an unfollow is unknown": (
        *(follows(1), publish(1, 2, settled=2.1), walk(3, 1)),
        *(unfollows(4, NEVER), walk(5), walk(6, 1)),
    ),
    "seen, then unfollowed and followed": (
        *(follows(1), publish(1, 2, followers=False, to=("carol",))),
        *(Change("bob", "carol", on=True, began=3, ended=3.1, new=True), walk(4, 1)),
        *(Change("bob", "carol", on=False, began=5, ended=5.1), walk(6)),
    ),
    "a walk that was given up": (
        *(follows(1), publish(1, 2, settled=2.1)),
        Walk("bob", 3, 4, [], complete=False),
    ),
    "below another by its time": (publish(2, 1), publish(1, 2, fresh=False)),
    "lost": (publish(1, 1), Loss(kept=0.5, restored=3)),
    "said to be on its way, then delivered": (
        publish(1, 1, settled=3.1),
        State(1, 2, 2.1, settled=False, name="QUEUED"),
        State(1, 3, 3.1, settled=True, name="DELIVERED"),
    ),
}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_right_is_let_pass(what: str) -> None:
    assert judged(history(*RIGHT[what])) == []


WRONG_READS = {
    "delivered, not read": (follows(1), publish(1, 2, settled=2.1), walk(3)),
    "its own, not read": (publish(1, 2), walk(3, user="alice")),
    "published before it was followed, not read": (publish(1, 0), follows(2), walk(3)),
    "read, and then not": (follows(1), publish(1, 2), walk(3, 1), walk(4)),
    "read before its answer, and then not": (
        *(follows(1), publish(1, 2, ended=NEVER), walk(3, 1), walk(4)),
    ),
    "delivered to whom it was published to, not read": (
        *(follows(1), publish(1, 2, actor="dave", to=("alice",), settled=2.1), walk(3)),
    ),
}


@pytest.mark.parametrize("what", WRONG_READS)
def test_reads_never_go_back(what: str) -> None:
    found = judged(history(*WRONG_READS[what]))
    assert [violation.judge for violation in found] == ["reads_never_go_back"]
    assert found[0].numbers == (1,)


FOREIGN = {
    "never published": (follows(1), walk(3, 1)),
    "refused": (follows(1), publish(1, 2, refused=True), walk(3, 1)),
    "deleted": (follows(1), publish(1, 2, deleting=2.5, deleted=2.9), walk(3, 1)),
    "never followed": (publish(1, 2), walk(3, 1)),
    "unfollowed": (follows(0), publish(1, 1), unfollows(2), walk(3, 1)),
    "another's": (follows(1), publish(1, 2, actor="dave"), walk(3, 1)),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_foreign_is_read(what: str) -> None:
    assert judges(history(*FOREIGN[what])) == {"nothing_foreign_is_read"}


@pytest.mark.parametrize("shown", [(1, 2), (2, 2, 1)])
def test_walks_descend(shown: tuple[int, ...]) -> None:
    found = history(follows(0), publish(1, 1), publish(2, 2), walk(3, *shown))
    assert "listings_descend" in judges(found)


def test_outboxes_descend() -> None:
    found = history(publish(1, 1), publish(2, 2))
    found.rest.outboxes["alice"].reverse()
    assert judges(found) == {"listings_descend"}


def test_a_publish_has_one_id() -> None:
    found = history(follows(1), publish(1, 2), walk(3, 1))
    found.walks[0].items = [Item(99, 1)]
    assert judges(found) == {"one_activity_one_id"}


def test_a_repeated_publish_has_the_same_id() -> None:
    found = history(publish(1, 2))
    found.rest.repeated = {1: 99}
    assert judges(found) == {"one_activity_one_id"}


def test_an_id_is_one_activitys() -> None:
    found = history(publish(1, 2, id=200), publish(2, 1, actor="bob"))
    assert "one_activity_one_id" in judges(found)


def test_an_actors_ids_ascend() -> None:
    assert judges(history(publish(2, 1), publish(1, 2))) == {"an_actors_ids_ascend"}


def test_delivered_stays_delivered() -> None:
    found = history(publish(1, 1, settled=1.1), State(1, 2, 2.1, settled=False, name="QUEUED"))
    assert judges(found) == {"delivered_stays_delivered"}


def test_without_rest_only_what_was_before_is_judged() -> None:
    found = history(follows(1))
    found.rest.following["bob"] = set()
    found.rested = False
    assert judges(found) == set()


def test_complaints_are_heard() -> None:
    found = history()
    found.complaints = ["a server ended by itself"]
    assert judges(found) == {"nothing_is_wrong_at_once"}


@pytest.mark.parametrize(
    ("code", "killed", "right"),
    [
        ("OK", False, True),
        ("UNAVAILABLE", False, True),
        ("CANCELLED", False, False),
        ("INTERNAL", False, False),
        ("CANCELLED", True, True),
    ],
)
def test_plain_callers_are_told_to_come_again(code: str, *, killed: bool, right: bool) -> None:
    found = history()
    found.outcomes = [Outcome("GetFeed of server 0", 1, 2, code, killed=killed)]
    assert judges(found) == (set() if right else {"plain_callers_are_told_to_come_again"})


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ((follows(1),), False),
        ((follows(1), unfollows(2)), True),
        ((), True),
    ],
)
def test_edges_are_as_told(changes: Sequence[Change], there: bool) -> None:
    found = history(*changes)
    found.rest.following["bob"] = {"alice"} if there else set()
    assert judges(found) == {"edges_are_as_told"}


@pytest.mark.parametrize("loss", [None, Loss(kept=0.5, restored=3)])
def test_an_edge_of_which_nobody_knows_may_be_there_or_not(loss: Loss | None) -> None:
    change = follows(1) if loss else follows(1, NEVER)
    for there in ({"alice"}, set()):
        found = history(change, *([loss] if loss else []))
        found.rest.following["bob"] = set(there)
        assert judges(found) == set()


def rid(found: History, number: int, *outboxes: str) -> History:
    """Without an activity in some outboxes, nor in any feed that reads no other."""
    for name in outboxes:
        found.rest.outboxes[name] = [
            item for item in found.rest.outboxes[name] if item.number != number
        ]
    return found


def test_an_acknowledged_publish_is_there() -> None:
    found = rid(history(publish(1, 1)), 1, "alice")
    found.rest.feeds = []
    assert judges(found) == {"outboxes_hold_what_was_published"}


def test_a_publish_is_in_all_of_its_outboxes_or_in_none() -> None:
    for known in (1.1, NEVER):
        found = history(publish(1, 1, to=("carol",)))
        found.publishes[1].ended = known
        assert judges(rid(found, 1, "carol")) == {"outboxes_hold_what_was_published"}


def test_a_publish_of_which_nobody_knows_may_be_there_or_not() -> None:
    assert judges(history(publish(1, 1, ended=NEVER, id=0))) == set()
    found = history(publish(1, 1))
    found.publishes[1].ended, found.publishes[1].id = NEVER, 0
    assert judges(found) == set()


@pytest.mark.parametrize("wrong", [{"refused": True}, {"deleting": 2, "deleted": 3}])
def test_what_was_refused_or_deleted_is_not_there(wrong: dict[str, object]) -> None:
    found = history(publish(1, 1, **wrong))
    found.rest.outboxes["alice"] = items(1)
    found.rest.feeds = []
    assert judges(found) == {"outboxes_hold_what_was_published"}


@pytest.mark.parametrize("name", ["bob", "alice"])
def test_nothing_is_where_it_does_not_belong(name: str) -> None:
    found = history(publish(1, 1, actor="dave"))
    found.rest.outboxes[name] = items(1)
    found.rest.feeds = []
    assert judges(found) == {"outboxes_hold_what_was_published"}


def test_what_was_never_published_is_nowhere() -> None:
    found = history()
    found.rest.outboxes["alice"] = items(1)
    found.rest.feeds = []
    assert judges(found) == {"outboxes_hold_what_was_published"}


def test_a_loss_takes_what_was_acknowledged_late_and_no_more() -> None:
    before, between, after = publish(1, 1), publish(2, 2), publish(3, 5)
    for one, judge in ((before, True), (between, False), (after, True)):
        found = history(before, between, after, Loss(kept=1.5, restored=4))
        found.rest.feeds = []
        objections = judges(rid(found, one.number, "alice"))
        assert objections == ({"outboxes_hold_what_was_published"} if judge else set())


@pytest.mark.parametrize("shown", [(), (1,), (2, 1, 0)])
def test_feeds_are_the_query(shown: tuple[int, ...]) -> None:
    found = history(follows(0), publish(1, 1), publish(2, 2))
    (feed,) = (one for one in found.rest.feeds if one.user == "bob")
    feed.items = items(*shown)
    assert judges(found) - {"one_activity_one_id"} == {"feeds_are_the_query"}


def test_feeds_name_the_sources() -> None:
    found = history(follows(0), publish(1, 1))
    (feed,) = (one for one in found.rest.feeds if one.user == "bob")
    feed.items = items(1, via=("bob",))
    assert judges(found) == {"feeds_are_the_query"}


def test_differences_of_stored_feeds_count() -> None:
    found = history(publish(1, 1))
    found.rest.differences = [Difference("alice", "MISSING", 100, 1)]
    assert judges(found) == {"stored_feeds_are_verified"}


def test_the_story_is_about_those_concerned() -> None:
    found = history(follows(1), publish(1, 2), publish(2, 2.5), walk(3), walk(3.5, user="eve"))
    assert story(found, ["bob"], [1]) == [
        "    1.000  bob follows alice (until 1.100)",
        "    2.000  alice publishes #1 (until 2.100, id 100)",
        "    3.000  bob reads 0, with none of these (until 3.100, during the run)",
        "   90.000  bob reads 2, with #1 (until 91.000, at rest)",
    ]
