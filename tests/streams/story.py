"""The story of a history of streams."""

from collections.abc import Collection, Iterator

from tests.harness.history import NEVER
from tests.harness.story import Lines, format_lines, lines_of
from tests.streams.history import Event, Message, StreamHistory, StreamRecord, Subject


def story(history: StreamHistory, subject: Subject | None, numbers: Collection[int]) -> list[str]:
    """Return the lines that concern a subject; with numbers, only those that concern publishes."""
    users = [subject.name] if subject is not None else []
    lines = list(lines_of(history, users, numbers))
    ids = {str(history.publishes[number].id) for number in numbers if number in history.publishes}
    for stream in history.streams:
        if stream.subject == subject:
            lines += _lines_of_stream(stream, numbers, ids)
    return format_lines(lines)


def _lines_of_stream(stream: StreamRecord, numbers: Collection[int], ids: Collection[str]) -> Lines:
    if numbers and not any(any(_concerned(message, numbers, ids)) for message in stream.messages):
        return
    begins = f"resumes {_shorten(stream.token)}" if stream.token else "begins"
    yield stream.began, f"{stream.subscriber} {begins} on {stream.server}"
    for message in stream.messages:
        concerned = set(_concerned(message, numbers, ids))
        names = [
            str(event)
            for event in message.shown
            if not numbers or event in concerned or event.kind in {"created", "reset"}
        ]
        if names or message is stream.messages[-1]:
            text = ", ".join(names) or ("others" if message.shown else "a checkpoint")
            text = f"{stream.subscriber} receives {text} ({_shorten(message.token)})"
            yield message.time, text
    if stream.ended < NEVER:
        yield stream.ended, f"{stream.subscriber}: {stream.end}"


def _concerned(message: Message, numbers: Collection[int], ids: Collection[str]) -> Iterator[Event]:
    """Yield the items and events of a message that concern publishes."""
    for event in message.shown:
        if event.number in numbers or event.target in ids:
            yield event


def _shorten(token: str) -> str:
    return f"{token[:12]}…{token[-6:]}"
