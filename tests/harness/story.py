"""The story of a history: the part of it that concerns some users and activities, line by line."""

from collections.abc import Collection, Iterable, Iterator

from tests.harness.history import NEVER, EdgeChange, History, Publish, Walk

#: Times and texts.
Lines = Iterator[tuple[float, str]]


def format_lines(lines: Iterable[tuple[float, str]]) -> list[str]:
    """Return lines in the order of time, each with its time."""
    return [f"{time:9.3f}  {text}" for time, text in sorted(lines)]


def lines_of(history: History, users: Collection[str], numbers: Collection[int]) -> Lines:
    """Yield the faults, and the calls of users and of publishes, which `numbers` narrows down.

    Without numbers, yield all edge changes and walks of the users; with numbers, only those edge
    changes that concern the publishes, and of each walk only the items that are such publishes.
    """
    for fault in history.faults:
        yield fault.time, f"FAULT {fault.text}"
    for loss in history.losses:
        yield loss.kept_until, "MAYBE LOST what follows"
        yield loss.restored, "the store is back"
    ids = {publish.id for publish in history.publishes.values() if publish.number in numbers} - {0}
    publishes = [
        publish
        for publish in history.publishes.values()
        if publish.number in numbers or publish.id in ids
    ]
    outboxes = {entity for publish in publishes for entity in publish.outboxes}
    for publish in publishes:
        yield from _lines_of_publish(publish)
    for change in history.changes:
        if change.follower in users and (not numbers or change.followee in outboxes):
            yield _line_of_change(change)
    for walk in history.walks:
        if walk.user in users:
            yield line_of_walk(walk, numbers)


def _lines_of_publish(publish: Publish) -> Lines:
    to = f" to {', '.join(publish.to)}" if publish.to else ""
    only = "" if publish.to_followers else " only"
    timed = "" if publish.is_untimed else ", with a time"
    answer = "refused" if publish.is_refused else f"id {publish.id}"
    text = f"{publish.actor} publishes #{publish.number}{to}{only}{timed}"
    yield publish.began, f"{text} ({_until(publish.ended)}, {answer})"
    if publish.delivered < NEVER:
        yield publish.delivered, f"#{publish.number} is {publish.delivery_state} (answered)"
    if publish.delete_began < NEVER:
        text = f"{publish.actor} deletes #{publish.number}"
        yield publish.delete_began, f"{text} ({_until(publish.delete_ended)})"


def _line_of_change(change: EdgeChange) -> tuple[float, str]:
    verb = "follows" if change.is_follow else "unfollows"
    text = f"{change.follower} {verb} {change.followee} ({_until(change.ended)})"
    return change.began, text


def line_of_walk(walk: Walk, numbers: Collection[int]) -> tuple[float, str]:
    """Return the line of a walk, which names the items that are publishes of these numbers."""
    named = [f"#{item.number}" for item in walk.items if not numbers or item.number in numbers]
    part = "" if walk.is_complete else ", in part"
    text = f"{walk.user} reads {len(walk.items)}{part}, with {' '.join(named) or 'none of these'}"
    return walk.began, f"{text} ({_until(walk.ended)}, {walk.occasion})"


def _until(ended: float) -> str:
    return "never answered" if ended == NEVER else f"until {ended:.3f}"
