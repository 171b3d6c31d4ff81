"""The domain's errors, in one tree. ``error_mapping.py`` maps them to gRPC statuses."""

from dataclasses import dataclass


class FeedError(Exception):
    """Base of all errors that reach a caller. The caller sees the text of the error."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path, like ``activity.to[3]``, and the broken rule.

    An empty path stands for the request as a whole.
    """

    field: str
    rule: str


class InvalidRequest(FeedError):
    """Fields of the request break their rules."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(
            "; ".join(
                f"{violation.field or 'the request'}: {violation.rule}"
                for violation in violations[:3]
            )
        )
        self.violations = violations


class PageTokenInvalid(FeedError):
    """A page token is damaged, or belongs to another list, viewer, view, store or version."""


class ResumeTokenInvalid(FeedError):
    """A resume token is damaged, or belongs to another log, viewer, view, store or version."""


class ResumeTokenExpired(FeedError):
    """The log no longer reaches back to a resume token: events are missing."""

    def __init__(self, message: str, resume_token: str) -> None:
        super().__init__(message)
        self.resume_token = resume_token
        """Token of the log's end, from which the caller may go on without the missing events."""


class ActivityNotFound(FeedError):
    """The activity never existed, was deleted, or was taken by retention."""

    def __init__(self, activity_id: int | str) -> None:
        super().__init__(
            f"there is no activity {activity_id}: it was deleted, retention took it, or it never "
            "existed"
        )


class NotTheActor(FeedError):
    """The request to change an activity names another entity than the activity's actor."""


class ActivityDeleted(FeedError):
    """The activity of an external id was deleted and stays deleted."""


class ExternalIdConflict(FeedError):
    """The actor has a different activity with this external id."""

    def __init__(self, message: str, activity_id: int) -> None:
        super().__init__(message)
        self.activity_id = activity_id


class RequestIdReused(FeedError):
    """An earlier request had the same request id and another body."""


class BeforeRetention(FeedError):
    """The outbox was trimmed above the publish time."""


class ExternalIdExpired(FeedError):
    """Retention took the activity of an external id."""


class TooManyFollowees(FeedError):
    """The follower follows as many entities as it may."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class FanoutOverloaded(FeedError):
    """Too many deliveries wait: nothing was published. Expected in operation; retry later."""


class ServerOverloaded(FeedError):
    """The server has too many calls under way. Expected under overload; retry later."""


class DeadLetterNotFound(FeedError):
    """The dead letter was replayed or discarded, or never existed."""


class StoreUnavailable(FeedError):
    """The store did not answer or is not ready. Expected in operation; retry."""


class Draining(FeedError):
    """The server is stopping. Expected in operation; retry elsewhere."""


class StreamExpired(FeedError):
    """A stream has lived as long as streams may. Expected in operation; resume it."""


class StreamNotRead(FeedError):
    """The client of a stream has not read for too long."""


class TooManySubscriptions(FeedError):
    """A stream has as many subscriptions as it may."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class TooManyStreams(FeedError):
    """The server has as many streams as it may. Expected in operation; retry later."""


class StoreUnfit(Exception):
    """The server cannot use the store, and ends. The message names the fault and what to do."""


class StoreNotReady(StoreUnfit):
    """The store cannot be reached, or loads its data. Expected at a start; try again in a while."""
