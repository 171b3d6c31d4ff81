"""Each validator accepts right histories, and notices each way in which a history can be wrong."""

from collections.abc import Sequence

import pytest

from tests.harness.examples import follow, publish, unfollow
from tests.harness.history import NEVER, EdgeChange, Publish
from tests.streams.history import (
    Event,
    LogEntry,
    Message,
    Page,
    Resumption,
    StreamHistory,
    StreamRecord,
    Subject,
)
from tests.streams.validators import VALIDATORS, violations_of

FEED, OUTBOX, ALL = Subject("feed", "bob"), Subject("outbox", "alice"), Subject("all")
#: The numbers of the markers of bob and alice.
BOBS, ALICES = 98, 99
#: When the service became quiet.
QUIET = 50.0


def added(number: int) -> Event:
    return Event("added", str(100 * number), number)


def removed(number: int) -> Event:
    return Event("removed", str(100 * number))


def page_of(*numbers: int, is_full: bool = False) -> Page:
    items = [Event("shown", str(100 * number), number) for number in numbers]
    return Page(tuple(items), is_full)


EXPIRED = "UNAVAILABLE STREAM_EXPIRED"
DRAINING = "UNAVAILABLE DRAINING"
CREATED, RESET = Event("created"), Event("reset")
MARKERS = (added(BOBS), added(ALICES))
UNFOLLOWED, FOLLOWED = Event("unfollowed", "alice"), Event("followed", "alice")


def message(time: float, token: str, *events: Event, page: Page | None = None) -> Message:
    return Message(time, token, events, page)


def first(time: float = 1.0, page: Page | None = None) -> Message:
    """Return the first message of a stream."""
    return message(time, "t0", CREATED, page=page)


def last(*numbers: int) -> Message:
    """Return the last message of a stream: some activities, and the markers."""
    return message(60, "end", *map(added, numbers), *MARKERS)


def stream(
    *messages: Message,
    after: str = "",
    began: float | None = None,
    ended: float | None = None,
    end: str = "left",
    subscriber: str = "one",
    subject: Subject = FEED,
    is_shared: bool = False,
) -> StreamRecord:
    """Return a stream that begins shortly before its messages, after a token if it resumes."""
    began = (messages[0].time - 0.1 if messages else 1.0) if began is None else began
    ended = (messages[-1].time + 0.1 if messages else began) if ended is None else ended
    return StreamRecord(
        *(subscriber, subject, "server 0", after, began, list(messages), ended, end),
        is_shared=is_shared,
    )


def resumption(
    token: str, *events: Event, is_lost: bool = False, subject: Subject = FEED
) -> Resumption:
    return Resumption(subject, token, "server 1", events, is_lost)


#: The entries of bob's log, and the positions of tokens in it.
LOG = [LogEntry("p0", "started", ""), *(LogEntry(f"p{n}", "added", str(100 * n)) for n in (1, 2))]
POSITIONS = {"t0": "p0", "t1": "p1", "t2": "p2", "n0": "lost"}

Case = Sequence[Publish | EdgeChange | StreamRecord | Resumption]


def history_of(*events: Publish | EdgeChange | StreamRecord | Resumption) -> StreamHistory:
    """Return a history in which bob follows alice first, and both publish markers last."""
    history = StreamHistory(quiet_since=QUIET, markers={"bob": "9800", "alice": "9900"})
    history.changes = [follow(0)]
    history.logs[FEED] = [LOG]
    history.log_positions = {(FEED, token): [position] for token, position in POSITIONS.items()}
    markers = [publish(BOBS, QUIET + 1, actor="bob"), publish(ALICES, QUIET + 1)]
    for event in (*events, *markers):
        match event:
            case Publish():
                history.publishes[event.number] = event
            case EdgeChange():
                history.changes.append(event)
            case StreamRecord():
                history.streams.append(event)
            case Resumption():
                history.resumptions.append(event)
    return history


def objectors(history: StreamHistory) -> list[str]:
    """Return the names of the validators that object to a history."""
    return sorted({violation.validator for violation in violations_of(history)})


ONE, TWO = publish(1, 2), publish(2, 3)
BOTH = (ONE, TWO)
GONE = publish(1, 2, delete_began=4, delete_ended=4.1)

#: Histories that keep every promise.
RIGHT: dict[str, Case] = {
    "no stream": (),
    "received": (*BOTH, stream(first(), message(2.2, "t1", added(1)), last(2))),
    "received by two subscribers in different messages": (
        *BOTH,
        stream(first(), message(2.2, "t1", added(1)), last(2)),
        stream(first(), message(4, "t2", added(1), added(2)), last(), subscriber="two"),
    ),
    "received in another order from another log": (
        *BOTH,
        stream(first(), message(4, "t2", added(2), added(1)), end="lost"),
        stream(message(5, "n0", CREATED), last(), subscriber="two", began=4.9),
    ),
    "resumed on the last token": (
        *BOTH,
        stream(first(), message(2.2, "t1", added(1)), end="UNAVAILABLE"),
        stream(last(2), after="t1", began=10),
    ),
    "lost, and begun anew": (
        *BOTH,
        stream(first(), end="lost", ended=5.0),
        stream(last(), after="n0", began=10),
    ),
    "reset within a stream": (*BOTH, stream(first(), message(5, "n0", RESET), last())),
    "never read to the end": (*BOTH, stream(first(), end="UNAVAILABLE")),
    "published before it began": (publish(1, 0.5), stream(first(), last())),
    "published while it began": (publish(1, 0.95), stream(first(), last())),
    "published without an answer, and not received": (
        publish(1, 2, ended=NEVER, id=0),
        stream(first(), last()),
    ),
    "published without an answer, and received": (
        publish(1, 2, ended=NEVER, id=0),
        stream(first(), last(1)),
    ),
    "refused": (publish(1, 2, is_refused=True), stream(first(), last())),
    "deleted before it was received": (GONE, stream(first(), message(5, "t1", removed(1)), last())),
    "deleted after it was received": (
        GONE,
        stream(first(), message(3, "t1", added(1), removed(1)), last()),
    ),
    "deleted without an answer": (publish(1, 2, delete_began=4), stream(first(), last())),
    "published by an actor whom the user does not follow": (
        publish(1, 2, actor="eve"),
        stream(first(), last()),
    ),
    "unfollowed before the publish": (
        *(unfollow(1.5), ONE),
        stream(first(), message(1.8, "t1", UNFOLLOWED), last()),
    ),
    "unfollowed after the publish": (
        *(ONE, unfollow(4)),
        stream(first(), message(4.8, "t1", UNFOLLOWED), last()),
    ),
    "unfollowed without an answer": (
        ONE,
        unfollow(4, NEVER),
        stream(first(), last()),
    ),
    "shown by the page": (publish(1, 0.2), stream(first(page=page_of(1)), last())),
    "shown by the page, and received when resumed": (
        publish(1, 0.2),
        stream(first(page=page_of(1))),
        stream(last(1), after="t0", began=10),
    ),
    "below a full page": (
        *(publish(1, 0.1), publish(2, 0.3)),
        stream(first(page=page_of(2, is_full=True)), last()),
    ),
    "of an outbox": (
        *BOTH,
        stream(first(), message(60, "t9", added(1), added(2), MARKERS[1]), subject=OUTBOX),
    ),
    "of all, in the order of each shard": (
        *(ONE, publish(2, 3, actor="eve")),
        stream(first(), last(1, 2), subject=ALL),
        stream(first(), last(2, 1), subject=ALL, subscriber="two"),
    ),
    "ended with a checkpoint": (
        stream(first(), message(9, "t0"), end=DRAINING),
        stream(last(), after="t0", began=10),
    ),
    "ended before its subject was added to a shared stream": (
        stream(end=DRAINING, is_shared=True),
    ),
    "resumed again": (
        *BOTH,
        stream(first(), message(2.2, "t1", added(1)), last(2)),
        resumption("t1", added(2), *MARKERS),
        resumption("t0", added(1), added(2), *MARKERS),
        resumption("end"),
    ),
    "resumed again, without a deleted activity": (
        *(GONE, TWO),
        stream(first(), message(3, "t1", added(1), removed(1)), last(2)),
        resumption("t0", removed(1), added(2), *MARKERS),
    ),
    "lost and lost again": (stream(first(), end="lost"), resumption("t0", is_lost=True)),
}
#: Cases in which logs are short, so that any log may be lost.
WITH_SHORT_LOGS = {
    "received in another order from another log",
    "lost, and begun anew",
    "reset within a stream",
    "lost and lost again",
    "not received after the log was lost",
    "a lost log is resumed",
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_history_has_no_violation(case: str) -> None:
    history = history_of(*RIGHT[case])
    history.may_lose_logs = case in WITH_SHORT_LOGS
    assert violations_of(history) == []


#: Histories that break a promise, by the validator that must object.
WRONG: dict[str, dict[str, Case]] = {
    "subscribers_agree_on_order": {
        "two chains of one log": (
            *BOTH,
            stream(first(), message(4, "t2", added(1), added(2)), last()),
            stream(first(), message(4, "t2", added(2), added(1)), last(), subscriber="two"),
        ),
        "a deletion before and after": (
            *(GONE, TWO),
            stream(first(), message(5, "t2", removed(1), added(2)), last()),
            stream(first(), message(5, "t2", added(2), removed(1)), last(), subscriber="two"),
        ),
        "activities of one actor in all": (*BOTH, stream(first(), last(2, 1), subject=ALL)),
    },
    "no_event_comes_twice": {
        "twice in a message": (ONE, stream(first(), last(1, 1))),
        "twice, the second time after a resumption": (
            ONE,
            stream(first(), message(2.2, "t1", added(1))),
            stream(last(1), after="t1", began=10),
        ),
        "removed twice": (
            GONE,
            stream(first(), message(5, "t1", removed(1)), message(6, "t2", removed(1)), last()),
        ),
        "shown by the page, and received": (
            publish(1, 0.2),
            stream(first(page=page_of(1)), last(1)),
        ),
    },
    "chains_are_complete": {
        "not received": (*BOTH, stream(first(), last(2))),
        "not received after a resumption": (
            *BOTH,
            stream(first(), message(2.2, "t1", added(1))),
            stream(last(), after="t1", began=10),
        ),
        "not received by its own actor": (publish(1, 2, actor="bob"), stream(first(), last())),
        "published to bob": (publish(1, 2, actor="eve", to=("bob",)), stream(first(), last())),
        "published to alice": (publish(1, 2, actor="eve", to=("alice",)), stream(first(), last())),
        "neither on the page nor received": (
            publish(1, 0.2),
            stream(first(page=page_of()), last()),
        ),
        "a deletion": (GONE, stream(first(), message(3, "t1", added(1)), last())),
        "an outbox": (ONE, stream(first(), message(60, "t9", MARKERS[1]), subject=OUTBOX)),
        "all": (publish(1, 2, actor="eve"), stream(first(), last(), subject=ALL)),
        "an unfollow": (unfollow(2), stream(first(), last())),
        "a follow after it": (
            *(unfollow(2), follow(3)),
            stream(first(), message(4, "t1", UNFOLLOWED), last()),
        ),
        "a follow before it": (
            *(unfollow(2), follow(3)),
            stream(first(), message(4, "t1", FOLLOWED, UNFOLLOWED), last()),
        ),
        "not received after the log was lost": (
            ONE,
            stream(first(0.5), end="lost", ended=1.5),
            stream(last(), after="n0", began=1.6),
        ),
    },
    "tokens_resume_exactly": {
        "an activity is missing": (
            *BOTH,
            stream(first(), message(2.2, "t1", added(1)), last(2)),
            resumption("t1", *MARKERS),
        ),
        "an activity comes again": (
            *BOTH,
            stream(first(), message(2.2, "t1", added(1)), last(2)),
            resumption("t1", added(1), added(2), *MARKERS),
        ),
        "in another order": (
            *BOTH,
            stream(first(), message(2.2, "t1", added(1), added(2)), last()),
            resumption("t0", added(2), added(1), *MARKERS),
        ),
        "a lost log is resumed": (stream(first(), end="lost"), resumption("t0", *MARKERS)),
        "a log is lost without a cause": (stream(first(), last()), resumption("t0", is_lost=True)),
        "all": (
            ONE,
            stream(first(), last(1), subject=ALL),
            resumption("t0", *MARKERS, subject=ALL),
        ),
    },
    "checkpoints_resume_exactly": {
        "an activity is missing": (
            *BOTH,
            stream(first(), message(2.2, "t1", added(1)), message(3, "t1"), last(2)),
            resumption("t1", *MARKERS),
        ),
    },
    "no_ghosts_appear": {
        "after it was removed": (
            publish(1, 2, delete_began=4, delete_ended=NEVER),
            stream(first(), message(5, "t1", removed(1), added(1)), last()),
        ),
        "removed in an earlier stream": (
            publish(1, 2, delete_began=4, delete_ended=NEVER),
            stream(first(), message(5, "t1", removed(1))),
            stream(last(1), after="t1", began=4),
        ),
        "deleted before the stream began": (
            GONE,
            stream(first(3)),
            stream(message(6, "t1", added(1), removed(1)), last(), after="t0", began=5),
        ),
        "deleted, on a page": (GONE, stream(first(6, page=page_of(1)), last())),
        "never published": (stream(first(), last(1)),),
        "published by an actor whom the user does not follow": (
            publish(1, 2, actor="eve"),
            stream(first(), last(1)),
        ),
        "unfollowed before the stream began": (
            *(ONE, unfollow(3)),
            stream(first(), message(4, "t1")),
            stream(message(6, "t2", added(1), UNFOLLOWED), last(), after="t1", began=5),
        ),
        "published by another entity than the outbox's": (
            publish(1, 2, actor="eve"),
            stream(first(), message(60, "t9", added(1), MARKERS[1]), subject=OUTBOX),
        ),
    },
    "ended_streams_say_where_they_stand": {
        "no message": (stream(end=DRAINING),),
        "events on a shared stream": (ONE, stream(first(), last(1), end=EXPIRED, is_shared=True)),
        "events": (ONE, stream(first(), last(1), end=EXPIRED)),
    },
    "tokens_skip_nothing": {
        "within a stream": (*BOTH, stream(first(), message(3, "t2", added(1)))),
        "by a checkpoint": (*BOTH, stream(first(), message(3, "t2"))),
        "by the first message of the next stream": (
            *BOTH,
            stream(first(), message(3, "t1", added(1))),
            stream(message(9, "t2"), after="t1", began=8),
        ),
    },
    "lost_logs_have_a_cause": {
        "a stream ends": (stream(first(), end="lost"),),
        "a stream goes on": (stream(first(), message(5, "n0", RESET), last()),),
    },
}


#: Validators whose wrong histories break other promises too.
NOT_ALONE = {"subscribers_agree_on_order", "no_ghosts_appear", "no_event_comes_twice"}


@pytest.mark.parametrize(
    ("validator", "case"),
    [(validator, case) for validator, cases in WRONG.items() for case in cases],
)
def test_wrong_history_is_a_violation(validator: str, case: str) -> None:
    history = history_of(*WRONG[validator][case])
    history.may_lose_logs = case in WITH_SHORT_LOGS
    assert validator in objectors(history)
    if validator not in NOT_ALONE:
        assert objectors(history) == [validator]


def test_complaint_is_a_violation() -> None:
    history = history_of()
    history.complaints = ["a server ended by itself"]
    assert objectors(history) == ["no_complaint_was_noted"]


@pytest.mark.parametrize(("log_name", "is_right"), [("feed bob", True), ("feed eve", False)])
def test_only_a_log_that_the_harness_broke_may_be_lost(log_name: str, *, is_right: bool) -> None:
    history = history_of(stream(first(), end="lost"))
    history.broken_logs = [(1.5, log_name)]
    assert (objectors(history) == []) is is_right


def test_every_validator_has_wrong_histories() -> None:
    names = {validator.__name__ for validator in VALIDATORS}
    assert names == {*WRONG, "no_complaint_was_noted"}
