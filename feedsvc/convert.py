"""Conversions between the contract's messages and the values of the core."""

from activityfeed.admin.v1.admin_service_pb2 import DeadLetter, FanoutJob, JobKind
from activityfeed.v1.activity_pb2 import (
    AUDIENCE_FOLLOWERS,
    AUDIENCE_TO_ONLY,
    Activity,
    ViewedActivity,
)
from activityfeed.v1.activity_service_pb2 import (
    Delivery,
    DeliveryState,
    PublishActivityRequest,
    PublishActivityResponse,
)
from activityfeed.v1.feed_pb2 import PageEnd
from activityfeed.v1.follow_service_pb2 import FollowEdge
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from feedsvc import wire
from feedsvc.core import job, jobs
from feedsvc.core.activities import NewActivity, Published, digest
from feedsvc.core.edges import Edge
from feedsvc.core.pages import Cursor, End, Page
from feedsvc.tokens import Tokens

#: The end of a page, as the contract names it.
PAGE_ENDS = {
    End.MORE: PageEnd.PAGE_END_MORE,
    End.FEED: PageEnd.PAGE_END_FEED_END,
    End.RETENTION: PageEnd.PAGE_END_RETENTION,
    End.NEWEST: PageEnd.PAGE_END_NEWEST,
}
#: The state of a delivery, as the contract names it.
DELIVERY_STATES: dict[job.State, DeliveryState] = {
    "delivered": DeliveryState.DELIVERY_STATE_DELIVERED,
    "queued": DeliveryState.DELIVERY_STATE_QUEUED,
    "pulled": DeliveryState.DELIVERY_STATE_PULLED,
    "failed": DeliveryState.DELIVERY_STATE_FAILED,
}
#: The kind of a job, as the contract names it.
JOB_KINDS = {
    job.Kind.DELIVER: JobKind.JOB_KIND_DELIVER,
    job.Kind.RETRACT: JobKind.JOB_KIND_RETRACT,
    job.Kind.FLIP: JobKind.JOB_KIND_FLIP,
}


def timestamp_ms(ms: int) -> Timestamp:
    """Return a Timestamp of a time in Unix milliseconds."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def timestamp_seconds(seconds: float) -> Timestamp:
    """Return a Timestamp of a time in Unix seconds, to the millisecond."""
    return timestamp_ms(round(seconds * 1000))


def duration_ms(ms: int) -> Duration:
    """Return a Duration of a number of milliseconds."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def new_activity(request: PublishActivityRequest, now_ms: int) -> NewActivity:
    """Return the activity to publish.

    The request's activity keeps only the fields that the store holds: those that the caller gives.
    """
    activity = request.activity
    for name in ("id", "create_time", "update_time", "etag"):  # the service sets these fields
        activity.ClearField(name)
    if not activity.audience:
        activity.audience = AUDIENCE_FOLLOWERS
    if activity.HasField("extra") and not activity.extra.fields:
        activity.ClearField("extra")
    publish_ms: int | None = None
    if activity.HasField("publish_time"):
        time = activity.publish_time
        publish_ms = time.seconds * 1000 + time.nanos // 1_000_000
    framed = wire.frame_activity(activity, now_ms)
    return NewActivity(
        actor=activity.actor,
        to=tuple(activity.to),
        followers=activity.audience == AUDIENCE_FOLLOWERS,
        publish_ms=publish_ms,
        external_id=activity.external_id,
        frame=framed.frame,
        digest=digest(framed.comparable),
    )


def stored_activity(activity_id: int, frame: bytes) -> Activity:
    """Return a stored activity with the fields that the service sets."""
    return Activity.FromString(wire.activity(activity_id, frame))


def viewed_activity(activity_id: int, frame: bytes) -> ViewedActivity:
    """Return a stored activity as a viewer sees it."""
    return ViewedActivity.FromString(wire.viewed_activity(activity_id, frame))


def publish_response(published: Published, frame: bytes) -> bytes:
    """Return a serialised PublishActivityResponse."""
    outcome = PublishActivityResponse(
        already_published=published.already, delivery=delivery(published.delivery)
    )
    activity = wire.activity(published.id, frame)
    return b"%b%b" % (wire.field(wire.FIELD_1, activity), outcome.SerializeToString())


def delivery(status: job.Delivery) -> Delivery:
    """Return the state of a delivery, with its counts if they are known."""
    state = DELIVERY_STATES[status.state]
    if not status.counted:
        return Delivery(state=state)
    return Delivery(
        state=state,
        delivered_count=status.feeds,
        skipped_cold_count=status.cold,
        audience_count=status.audience,
    )


def fanout_job(open_job: jobs.OpenJob) -> FanoutJob:
    """Return a job that waits or runs, or that a dead letter holds."""
    return FanoutJob(
        kind=JOB_KINDS[open_job.job.kind],
        activity_id="" if open_job.job.kind is job.Kind.FLIP else str(open_job.job.subject),
        actor=open_job.job.actor,
        to=open_job.job.to,
        queue_time=timestamp_ms(open_job.queued_ms),
        delivered_count=open_job.feeds,
        skipped_cold_count=open_job.cold,
        attempt_count=open_job.attempts,
    )


def dead_letter(letter: jobs.DeadLetter) -> DeadLetter:
    """Return a dead letter with the job that failed."""
    return DeadLetter(
        id=letter.id,
        job=fanout_job(letter.open),
        error=letter.error,
        failure_time=timestamp_ms(letter.failed_ms),
    )


def page_tokens(page: Page, tokens: Tokens, *scope: str) -> tuple[str, str]:
    """Return the tokens of the pages with older and newer ids.

    The first token is empty if no older ids remain.
    """
    seal = tokens.page_sealer(*scope)
    older = "" if page.older is None else seal(Cursor(older=True, id=page.older))
    return older, seal(Cursor(older=False, id=page.newer))


def routes(activity: Activity) -> list[str]:
    """Return the entities whose outboxes hold an activity, each once."""
    if activity.audience == AUDIENCE_TO_ONLY:
        return list(activity.to)
    return [activity.actor, *(entity for entity in activity.to if entity != activity.actor)]


def follow_edge(edge: Edge) -> FollowEdge:
    """Return an edge with the time of the follow."""
    return FollowEdge(
        follower=edge.follower,
        followee=edge.followee,
        follow_time=timestamp_ms(edge.position // 1000),
    )
