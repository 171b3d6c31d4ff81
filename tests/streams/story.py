"""Tells the part of a history that one subject and some activities are about."""

from collections.abc import Collection

from tests.faults.history import NEVER
from tests.faults.story import story as of_calls
from tests.streams.history import StreamHistory, Subject, Told


def story(history: StreamHistory, subject: Subject | None, numbers: Collection[int]) -> list[str]:
    """What was done and told about a subject, or only of some activities if any are named."""
    users = [subject.name] if subject is not None else []
    calls = of_calls(history, users, numbers)
    lines = [(float(line[:9]), line) for line in calls]
    ids = {str(history.publishes[number].id) for number in numbers if number in history.publishes}
    for told in history.told:
        if told.subject == subject:
            lines += _of_stream(told, numbers, ids)
    return [line for _, line in sorted(lines)]


def _of_stream(
    told: Told, numbers: Collection[int], ids: Collection[str]
) -> list[tuple[float, str]]:
    if numbers and not any(
        event.number in numbers or event.what in ids
        for message in told.messages
        for event in (*(message.page.items if message.page else ()), *message.events)
    ):
        return []
    begins = f"resumes {told.token[:12]}…{told.token[-6:]}" if told.token else "begins"
    lines = [(told.began, f"{told.subscriber} {begins} on {told.server}")]
    for message in told.messages:
        items = (*(message.page.items if message.page else ()), *message.events)
        named = [
            str(event)
            for event in items
            if not numbers
            or event.number in numbers
            or event.what in ids
            or event.kind in {"created", "reset"}
        ]
        if named or message is told.messages[-1]:
            what = ", ".join(named) or ("a checkpoint" if not items else "others")
            token = f"{message.token[:12]}…{message.token[-6:]}"
            lines.append((message.at, f"{told.subscriber} is told {what} ({token})"))
    if told.ended < NEVER:
        lines.append((told.ended, f"{told.subscriber}: {told.how}"))
    return [(at, f"{at:9.3f}  {text}") for at, text in lines]
