"""The story of a history of calls."""

from collections.abc import Collection

from tests.faults.history import CallHistory
from tests.harness.story import format_lines, line_of_walk, lines_of


def story(history: CallHistory, users: Collection[str], numbers: Collection[int]) -> list[str]:
    """Return the lines of users and publishes; without numbers, all lines of the users."""
    lines = list(lines_of(history, users, numbers))
    lines += [line_of_walk(walk, numbers) for walk in history.final.feeds if walk.user in users]
    lines += [
        (answer.began, f"#{answer.number} is {answer.state}")
        for answer in history.delivery_answers
        if answer.number in numbers
    ]
    return format_lines(lines)
