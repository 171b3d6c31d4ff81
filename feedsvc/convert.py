"""Between the contract's messages and the core's own."""

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

DEFAULT_PAGE = 20
MOST_PAGE = 100
DEFAULT_EDGES = 100
MOST_EDGES = 1_000
DEFAULT_LETTERS = 100
MOST_LETTERS = 1_000

PAGE_ENDS = {
    End.MORE: PageEnd.PAGE_END_MORE,
    End.FEED: PageEnd.PAGE_END_FEED_END,
    End.RETENTION: PageEnd.PAGE_END_RETENTION,
    End.NEWEST: PageEnd.PAGE_END_NEWEST,
}
STATES: dict[job.State, DeliveryState] = {
    "delivered": DeliveryState.DELIVERY_STATE_DELIVERED,
    "queued": DeliveryState.DELIVERY_STATE_QUEUED,
    "pulled": DeliveryState.DELIVERY_STATE_PULLED,
    "failed": DeliveryState.DELIVERY_STATE_FAILED,
}
KINDS = {
    job.Kind.DELIVER: JobKind.JOB_KIND_DELIVER,
    job.Kind.RETRACT: JobKind.JOB_KIND_RETRACT,
    job.Kind.FLIP: JobKind.JOB_KIND_FLIP,
}


def page_size(wanted: int, default: int = DEFAULT_PAGE, most: int = MOST_PAGE) -> int:
    return min(wanted or default, most)


def timestamp_ms(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration_ms(ms: int) -> Duration:
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def new_activity(request: PublishActivityRequest, now_ms: int) -> NewActivity:
    """What to publish. Makes of the request's activity what is stored: what the caller gives."""
    activity = request.activity
    for given in ("id", "create_time", "update_time", "etag"):
        activity.ClearField(given)
    if not activity.audience:
        activity.audience = AUDIENCE_FOLLOWERS
    if activity.HasField("extra") and not activity.extra.fields:
        activity.ClearField("extra")
    publish_ms: int | None = None
    if activity.HasField("publish_time"):
        time = activity.publish_time
        publish_ms = time.seconds * 1000 + time.nanos // 1_000_000
    framed = wire.framed(activity, now_ms)
    return NewActivity(
        actor=activity.actor,
        to=tuple(activity.to),
        followers=activity.audience == AUDIENCE_FOLLOWERS,
        publish_ms=publish_ms,
        external_id=activity.external_id,
        frame=framed.frame,
        digest=digest(framed.compared),
    )


def stored_activity(activity_id: int, frame: bytes) -> Activity:
    return Activity.FromString(wire.activity(activity_id, frame))


def viewed_activity(activity_id: int, frame: bytes) -> ViewedActivity:
    return ViewedActivity.FromString(wire.viewed_activity(activity_id, frame))


def publish_response(published: Published, frame: bytes) -> bytes:
    """A PublishActivityResponse, serialised."""
    rest = PublishActivityResponse(
        already_published=published.already, delivery=delivery(published.delivery)
    )
    activity = wire.activity(published.id, frame)
    return b"%b%b" % (wire.field(wire.FIRST, activity), rest.SerializeToString())


def delivery(found: job.Delivery) -> Delivery:
    state = STATES[found.state]
    if not found.counted:
        return Delivery(state=state)
    return Delivery(
        state=state,
        delivered_count=found.feeds,
        skipped_cold_count=found.cold,
        audience_count=found.audience,
    )


def fanout_job(found: jobs.OpenJob) -> FanoutJob:
    open_job = found.job
    return FanoutJob(
        kind=KINDS[open_job.kind],
        activity_id="" if open_job.kind is job.Kind.FLIP else str(open_job.subject),
        actor=open_job.actor,
        to=open_job.to,
        queue_time=timestamp_ms(found.queued_ms),
        delivered_count=found.feeds,
        skipped_cold_count=found.cold,
        attempt_count=found.attempts,
    )


def dead_letter(found: jobs.DeadLetter) -> DeadLetter:
    return DeadLetter(
        id=found.id,
        job=fanout_job(found.open),
        error=found.error,
        failure_time=timestamp_ms(found.failed_ms),
    )


def page_tokens(page: Page, tokens: Tokens, *bound: str) -> tuple[str, str]:
    """The tokens of a page towards older and newer ids."""
    token = tokens.pages(*bound)
    older = "" if page.older is None else token(Cursor(older=True, id=page.older))
    return older, token(Cursor(older=False, id=page.newer))


def routes(activity: Activity) -> list[str]:
    """The outboxes that an activity was published to."""
    if activity.audience == AUDIENCE_TO_ONLY:
        return list(activity.to)
    return [activity.actor, *(one for one in activity.to if one != activity.actor)]


def follow_edge(edge: Edge) -> FollowEdge:
    return FollowEdge(
        follower=edge.follower,
        followee=edge.followee,
        follow_time=timestamp_ms(edge.position // 1000),
    )
