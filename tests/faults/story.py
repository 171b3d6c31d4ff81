"""Tells the part of a history that some users and activities are about."""

from collections.abc import Collection, Iterator

from tests.faults.history import NEVER, Change, History, Publish, Walk

Lines = Iterator[tuple[float, str]]


def story(history: History, users: Collection[str], numbers: Collection[int]) -> list[str]:
    """What was done and read by some users, and of some activities if any are named; and faults."""
    lines = [(one.at, f"FAULT {one.text}") for one in history.faults]
    for loss in history.losses:
        lines += [(loss.kept, "MAYBE LOST what follows"), (loss.restored, "the store is back")]
    ids = {one.id for one in history.publishes.values() if one.number in numbers} - {0}
    published = [
        one for one in history.publishes.values() if one.number in numbers or one.id in ids
    ]
    routes = {route for one in published for route in one.routes}
    for one in published:
        lines += _of_publish(one)
    for change in history.changes:
        if change.follower in users and (not numbers or change.followee in routes):
            lines += _of_change(change)
    for walk in (*history.walks, *history.rest.feeds):
        if walk.user in users:
            lines += _of_walk(walk, numbers)
    for state in history.states:
        if state.number in numbers:
            lines.append((state.began, f"#{state.number} is {state.name}"))
    return [f"{at:9.3f}  {text}" for at, text in sorted(lines)]


def _of_publish(one: Publish) -> Lines:
    to = f" to {', '.join(one.to)}" if one.to else ""
    only = "" if one.followers else " only"
    when = "" if one.fresh else ", with a time"
    answer = "refused" if one.refused else f"id {one.id}"
    text = f"{one.actor} publishes #{one.number}{to}{only}{when}"
    yield one.began, f"{text} ({_until(one.ended)}, {answer})"
    if one.settled < NEVER:
        yield one.settled, f"#{one.number} is {one.state} (answered)"
    if one.deleting < NEVER:
        yield one.deleting, f"{one.actor} deletes #{one.number} ({_until(one.deleted)})"


def _of_change(change: Change) -> Lines:
    what = "follows" if change.on else "unfollows"
    yield change.began, f"{change.follower} {what} {change.followee} ({_until(change.ended)})"


def _of_walk(walk: Walk, numbers: Collection[int]) -> Lines:
    shown = [f"#{item.number}" for item in walk.items if not numbers or item.number in numbers]
    part = "" if walk.complete else ", in part"
    text = f"{walk.user} reads {len(walk.items)}{part}, with {' '.join(shown) or 'none of these'}"
    yield walk.began, f"{text} ({_until(walk.ended)}, {walk.how})"


def _until(ended: float) -> str:
    return "never answered" if ended == NEVER else f"until {ended:.3f}"
