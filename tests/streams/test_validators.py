"""Each validator is shown histories that are right, and ones for each way of being wrong."""

from collections.abc import Sequence

import pytest

from tests.faults.history import NEVER, Change, Publish
from tests.streams.history import (
    Event,
    Logged,
    Message,
    Page,
    Replay,
    StreamHistory,
    Subject,
    Told,
)
from tests.streams.validators import VALIDATORS, validated

FEED, OUTBOX, ALL = Subject("feed", "bob"), Subject("outbox", "alice"), Subject("all")
#: The last publishes of all, by bob and by alice.
BOBS, ALICES = 98, 99
SETTLED = 50.0


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


def change(began: float, *, on: bool, ended: float | None = None) -> Change:
    """Of bob's following alice."""
    ended = began + 0.1 if ended is None else ended
    return Change("bob", "alice", on=on, began=began, ended=ended, new=on)


def added(number: int) -> Event:
    return Event("added", str(100 * number), number)


def removed(number: int) -> Event:
    return Event("removed", str(100 * number))


def shown(*numbers: int) -> Page:
    items = [Event("shown", str(100 * number), number) for number in numbers]
    return Page(tuple(items), full=False)


ENDED = "UNAVAILABLE STREAM_EXPIRED"
CREATED, RESET = Event("created"), Event("reset")
LAST = (added(BOBS), added(ALICES))
UNFOLLOWED, FOLLOWED = Event("unfollowed", "alice"), Event("followed", "alice")


def message(at: float, token: str, *events: Event, page: Page | None = None) -> Message:
    return Message(at, token, events, page)


def begun(at: float = 1.0, page: Page | None = None) -> Message:
    return message(at, "t0", CREATED, page=page)


def end(*numbers: int) -> Message:
    """What is told at the end, after some activities."""
    return message(60, "end", *map(added, numbers), *LAST)


def stream(
    *messages: Message,
    after: str = "",
    began: float | None = None,
    ended: float | None = None,
    how: str = "left",
    who: str = "one",
    subject: Subject = FEED,
    many: bool = False,
) -> Told:
    began = (messages[0].at - 0.1 if messages else 1.0) if began is None else began
    ended = (messages[-1].at + 0.1 if messages else began) if ended is None else ended
    return Told(who, subject, "server 0", after, began, list(messages), ended, how, many)


def replay(token: str, *events: Event, lost: bool = False, subject: Subject = FEED) -> Replay:
    return Replay(subject, token, "server 1", events, lost)


#: What bob's log held, and the places of tokens in it.
LOGGED = [Logged("p0", "started", ""), *(Logged(f"p{n}", "added", str(100 * n)) for n in (1, 2))]
PLACES = {"t0": "p0", "t1": "p1", "t2": "p2", "n0": "gone"}


def history(*what: Publish | Change | Told | Replay) -> StreamHistory:
    """Bob follows alice, and all is settled in the end."""
    found = StreamHistory(settled_at=SETTLED, markers={"bob": "9800", "alice": "9900"})
    found.changes = [change(0, on=True)]
    found.logs[FEED] = [LOGGED]
    found.places = {(FEED, token): [place] for token, place in PLACES.items()}
    last = [publish(BOBS, SETTLED + 1, actor="bob"), publish(ALICES, SETTLED + 1)]
    for one in (*what, *last):
        match one:
            case Publish():
                found.publishes[one.number] = one
            case Change():
                found.changes.append(one)
            case Told():
                found.told.append(one)
            case Replay():
                found.replays.append(one)
    return found


def objections(found: StreamHistory) -> list[str]:
    """Which validators object."""
    return sorted({violation.validator for violation in validated(found)})


ONE, TWO = publish(1, 2), publish(2, 3)
BOTH = (ONE, TWO)
GONE = publish(1, 2, deleting=4, deleted=4.1)

Case = Sequence[Publish | Change | Told | Replay]

RIGHT: dict[str, Case] = {
    "nothing": (),
    "told": (*BOTH, stream(begun(), message(2.2, "t1", added(1)), end(2))),
    "told by two, cut differently": (
        *BOTH,
        stream(begun(), message(2.2, "t1", added(1)), end(2)),
        stream(begun(), message(4, "t2", added(1), added(2)), end(), who="two"),
    ),
    "in another order in another log": (
        *BOTH,
        stream(begun(), message(4, "t2", added(2), added(1)), how="lost"),
        stream(message(5, "n0", CREATED), end(), who="two", began=4.9),
    ),
    "resumed on its token": (
        *BOTH,
        stream(begun(), message(2.2, "t1", added(1)), how="UNAVAILABLE"),
        stream(end(2), after="t1", began=10),
    ),
    "lost and begun anew": (
        *BOTH,
        stream(begun(), how="lost", ended=5.0),
        stream(end(), after="n0", began=10),
    ),
    "reset within a stream": (*BOTH, stream(begun(), message(5, "n0", RESET), end())),
    "never read to the end": (*BOTH, stream(begun(), how="UNAVAILABLE")),
    "published before it began": (publish(1, 0.5), stream(begun(), end())),
    "published while it began": (publish(1, 0.95), stream(begun(), end())),
    "not answered, and not told": (publish(1, 2, ended=NEVER, id=0), stream(begun(), end())),
    "not answered, and told": (publish(1, 2, ended=NEVER, id=0), stream(begun(), end(1))),
    "refused": (publish(1, 2, refused=True), stream(begun(), end())),
    "deleted before it was told": (GONE, stream(begun(), message(5, "t1", removed(1)), end())),
    "deleted after it was told": (
        GONE,
        stream(begun(), message(3, "t1", added(1), removed(1)), end()),
    ),
    "its deletion not answered": (publish(1, 2, deleting=4), stream(begun(), end())),
    "by somebody who is not followed": (publish(1, 2, actor="eve"), stream(begun(), end())),
    "unfollowed before": (
        *(change(1.5, on=False), ONE),
        stream(begun(), message(1.8, "t1", UNFOLLOWED), end()),
    ),
    "unfollowed after": (
        *(ONE, change(4, on=False)),
        stream(begun(), message(4.8, "t1", UNFOLLOWED), end()),
    ),
    "unfollowed, nobody knows": (ONE, change(4, on=False, ended=NEVER), stream(begun(), end())),
    "shown by the page": (publish(1, 0.2), stream(begun(page=shown(1)), end())),
    "shown by the page, and told when it was resumed": (
        publish(1, 0.2),
        stream(begun(page=shown(1))),
        stream(end(1), after="t0", began=10),
    ),
    "below a full page": (
        *(publish(1, 0.1), publish(2, 0.3)),
        stream(begun(page=Page(shown(2).items, full=True)), end()),
    ),
    "an outbox": (
        *BOTH,
        stream(begun(), message(60, "t9", added(1), added(2), LAST[1]), subject=OUTBOX),
    ),
    "all, in the order of each shard": (
        *(ONE, publish(2, 3, actor="eve")),
        stream(begun(), end(1, 2), subject=ALL),
        stream(begun(), end(2, 1), subject=ALL, who="two"),
    ),
    "ended with a checkpoint": (
        stream(begun(), message(9, "t0"), how="UNAVAILABLE DRAINING"),
        stream(end(), after="t0", began=10),
    ),
    "ended before it began among many": (stream(how="UNAVAILABLE DRAINING", many=True),),
    "resumed again": (
        *BOTH,
        stream(begun(), message(2.2, "t1", added(1)), end(2)),
        replay("t1", added(2), *LAST),
        replay("t0", added(1), added(2), *LAST),
        replay("end"),
    ),
    "resumed again without what was deleted": (
        *(GONE, TWO),
        stream(begun(), message(3, "t1", added(1), removed(1)), end(2)),
        replay("t0", removed(1), added(2), *LAST),
    ),
    "lost and lost again": (stream(begun(), how="lost"), replay("t0", lost=True)),
}
#: In these the harness broke a log, or logs were short.
FRAGILE = {"in another order in another log", "lost and begun anew", "reset within a stream"}
FRAGILE |= {"lost and lost again"}


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_right_is_let_pass(what: str) -> None:
    found = history(*RIGHT[what])
    found.fragile = what in FRAGILE
    assert validated(found) == []


WRONG: dict[str, dict[str, Case]] = {
    "ordered": {
        "two chains of one log": (
            *BOTH,
            stream(begun(), message(4, "t2", added(1), added(2)), end()),
            stream(begun(), message(4, "t2", added(2), added(1)), end(), who="two"),
        ),
        "a deletion before and after": (
            *(GONE, TWO),
            stream(begun(), message(5, "t2", removed(1), added(2)), end()),
            stream(begun(), message(5, "t2", added(2), removed(1)), end(), who="two"),
        ),
        "one actor's in all": (*BOTH, stream(begun(), end(2, 1), subject=ALL)),
    },
    "unique": {
        "twice in a message": (ONE, stream(begun(), end(1, 1))),
        "twice over a resumption": (
            ONE,
            stream(begun(), message(2.2, "t1", added(1))),
            stream(end(1), after="t1", began=10),
        ),
        "removed twice": (
            GONE,
            stream(begun(), message(5, "t1", removed(1)), message(6, "t2", removed(1)), end()),
        ),
        "shown and told": (publish(1, 0.2), stream(begun(page=shown(1)), end(1))),
    },
    "complete": {
        "not told": (*BOTH, stream(begun(), end(2))),
        "not told after it was resumed": (
            *BOTH,
            stream(begun(), message(2.2, "t1", added(1))),
            stream(end(), after="t1", began=10),
        ),
        "its own": (publish(1, 2, actor="bob"), stream(begun(), end())),
        "published to bob": (publish(1, 2, actor="eve", to=("bob",)), stream(begun(), end())),
        "published to alice": (publish(1, 2, actor="eve", to=("alice",)), stream(begun(), end())),
        "neither on the page nor told": (publish(1, 0.2), stream(begun(page=shown()), end())),
        "a deletion": (GONE, stream(begun(), message(3, "t1", added(1)), end())),
        "an outbox": (ONE, stream(begun(), message(60, "t9", LAST[1]), subject=OUTBOX)),
        "all": (publish(1, 2, actor="eve"), stream(begun(), end(), subject=ALL)),
        "an unfollow": (change(2, on=False), stream(begun(), end())),
        "a follow after it": (
            *(change(2, on=False), change(3, on=True)),
            stream(begun(), message(4, "t1", UNFOLLOWED), end()),
        ),
        "a follow before it": (
            *(change(2, on=False), change(3, on=True)),
            stream(begun(), message(4, "t1", FOLLOWED, UNFOLLOWED), end()),
        ),
        "since a log was lost": (
            ONE,
            stream(begun(0.5), how="lost", ended=1.5),
            stream(end(), after="n0", began=1.6),
        ),
    },
    "resumable": {
        "something is missing": (
            *BOTH,
            stream(begun(), message(2.2, "t1", added(1)), end(2)),
            replay("t1", *LAST),
        ),
        "something comes again": (
            *BOTH,
            stream(begun(), message(2.2, "t1", added(1)), end(2)),
            replay("t1", added(1), added(2), *LAST),
        ),
        "in another order": (
            *BOTH,
            stream(begun(), message(2.2, "t1", added(1), added(2)), end()),
            replay("t0", added(2), added(1), *LAST),
        ),
        "a log that was lost": (stream(begun(), how="lost"), replay("t0", *LAST)),
        "a log that is there is lost": (stream(begun(), end()), replay("t0", lost=True)),
        "all": (
            ONE,
            stream(begun(), end(1), subject=ALL),
            replay("t0", *LAST, subject=ALL),
        ),
    },
    "checkpoints_true": {
        "something is missing": (
            *BOTH,
            stream(begun(), message(2.2, "t1", added(1)), message(3, "t1"), end(2)),
            replay("t1", *LAST),
        ),
    },
    "no_ghosts": {
        "after it was removed": (
            publish(1, 2, deleting=4, deleted=NEVER),
            stream(begun(), message(5, "t1", removed(1), added(1)), end()),
        ),
        "removed in an earlier stream": (
            publish(1, 2, deleting=4, deleted=NEVER),
            stream(begun(), message(5, "t1", removed(1))),
            stream(end(1), after="t1", began=4),
        ),
        "deleted before the stream began": (
            GONE,
            stream(begun(3)),
            stream(message(6, "t1", added(1), removed(1)), end(), after="t0", began=5),
        ),
        "deleted, on a page": (GONE, stream(begun(6, page=shown(1)), end())),
        "never published": (stream(begun(), end(1)),),
        "never followed": (publish(1, 2, actor="eve"), stream(begun(), end(1))),
        "unfollowed before the stream began": (
            *(ONE, change(3, on=False)),
            stream(begun(), message(4, "t1")),
            stream(message(6, "t2", added(1), UNFOLLOWED), end(), after="t1", began=5),
        ),
        "another's outbox": (
            publish(1, 2, actor="eve"),
            stream(begun(), message(60, "t9", added(1), LAST[1]), subject=OUTBOX),
        ),
    },
    "ends_say_where": {
        "nothing": (stream(how="UNAVAILABLE DRAINING"),),
        "events among many": (ONE, stream(begun(), end(1), how=ENDED, many=True)),
        "events": (ONE, stream(begun(), end(1), how=ENDED)),
    },
    "tokens_pass_nothing": {
        "within a stream": (*BOTH, stream(begun(), message(3, "t2", added(1)))),
        "by a checkpoint": (*BOTH, stream(begun(), message(3, "t2"))),
        "by the first message of the next stream": (
            *BOTH,
            stream(begun(), message(3, "t1", added(1))),
            stream(message(9, "t2"), after="t1", began=8),
        ),
    },
    "losses_have_a_cause": {
        "a stream ends": (stream(begun(), how="lost"),),
        "a stream goes on": (stream(begun(), message(5, "n0", RESET), end()),),
    },
}


@pytest.mark.parametrize(
    ("validator", "what"), [(name, what) for name, cases in WRONG.items() for what in cases]
)
def test_what_is_wrong_is_found(validator: str, what: str) -> None:
    found = history(*WRONG[validator][what])
    found.fragile = what.startswith("a log that was") or what == "since a log was lost"
    assert validator in objections(found)
    if validator not in {"ordered", "no_ghosts", "unique"}:  # these are wrong in more than one way
        assert objections(found) == [validator]


def test_complaints_are_heard() -> None:
    found = history()
    found.complaints = ["a server ended by itself"]
    assert objections(found) == ["nothing_is_wrong_at_once"]


@pytest.mark.parametrize(("name", "right"), [("feed bob", True), ("feed eve", False)])
def test_a_log_that_the_harness_broke_may_be_lost(name: str, *, right: bool) -> None:
    found = history(stream(begun(), how="lost"))
    found.broken_logs = [(1.5, name)]
    assert (objections(found) == []) is right


def test_every_validator_is_shown_what_is_wrong() -> None:
    named = {validator.__name__ for validator in VALIDATORS}
    assert named == {*WRONG, "nothing_is_wrong_at_once"}
