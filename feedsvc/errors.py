"""The domain's errors, in one tree. ``status.py`` turns them into gRPC's."""

from dataclasses import dataclass


class FeedError(Exception):
    """Base of all errors that a caller is told about. Its text is shown to the caller."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path, like ``activity.to[3]`` (empty: the whole), and the broken rule."""

    field: str
    rule: str


class InvalidRequest(FeedError):
    """Fields of the request break their rules."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(f"{v.field or 'the request'}: {v.rule}" for v in violations[:3]))
        self.violations = violations


class PageTokenInvalid(FeedError):
    """A page token is damaged, or of another service, query, viewer or version."""


class ResumeTokenInvalid(FeedError):
    """A resume token is damaged, or of another service, user, viewer or version."""


class ResumeTokenExpired(FeedError):
    """The log no longer reaches back to a resume token: events are missing."""

    def __init__(self, message: str, resume_token: str) -> None:
        super().__init__(message)
        self.resume_token = resume_token


class ActivityNotFound(FeedError):
    """An activity never was, was deleted, or fell out of retention."""


class NotTheActor(FeedError):
    """Somebody else than its actor wants to change an activity."""


class ActivityDeleted(FeedError):
    """The activity of an external id was deleted and stays so."""


class ExternalIdConflict(FeedError):
    """The actor has another activity of this external id."""

    def __init__(self, message: str, activity_id: int) -> None:
        super().__init__(message)
        self.activity_id = activity_id


class RequestIdReused(FeedError):
    """A request id was sent before with another body."""


class BeforeRetention(FeedError):
    """The outbox was trimmed above the publish time."""


class ExternalIdExpired(FeedError):
    """Retention took the activity of an external id."""


class TooManyFollowees(FeedError):
    """The follower follows as many as it may."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class FanoutOverloaded(FeedError):
    """Too many deliveries wait: nothing was published. Expected in operation; retry later."""


class ServerOverloaded(FeedError):
    """The server has too many calls to do. Expected under overload; retry later."""


class DeadLetterNotFound(FeedError):
    """A dead letter never was, or was replayed."""


class StoreUnavailable(FeedError):
    """The store did not answer or is not ready. Expected in operation; retry."""


class Draining(FeedError):
    """The server is stopping. Expected in operation; retry elsewhere."""


class StreamExpired(FeedError):
    """A stream has lived as long as streams may. Expected in operation; come again."""


class StreamNotRead(FeedError):
    """The client of a stream has not read for too long."""


class TooManySubscriptions(FeedError):
    """A stream has as many subscriptions as it may."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class TooManyStreams(FeedError):
    """The server has as many streams as it may. Expected in operation; come again."""


class StoreUnfit(Exception):
    """The store cannot be used; the message says what is wrong and what to do. Ends the server."""
