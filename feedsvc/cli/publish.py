"""``feedsvc publish``."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from activityfeed import FeedClient
from activityfeed.v1.activity_pb2 import AUDIENCE_TO_ONLY, Activity, Ref
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_PULLED,
    DELIVERY_STATE_QUEUED,
    Delivery,
    PublishActivityRequest,
    PublishActivityResponse,
)
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.struct_pb2 import Struct

from feedsvc.cli.connection import call_server, echo_json, json_option, server_option
from feedsvc.cli.rendering import activity_line, console, print_lines

#: Seconds that `publish --wait` waits.
WAIT_SECONDS = 600.0
#: The states of a delivery in words.
DELIVERY_STATES = {
    DELIVERY_STATE_DELIVERED: "delivered",
    DELIVERY_STATE_QUEUED: "queued: workers deliver it",
    DELIVERY_STATE_PULLED: "delivered: so many follow that their reads fetch it",
    DELIVERY_STATE_FAILED: "not delivered to all: see feedsvc dead-letters",
}


def _parse_time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Parse a time in ISO 8601. A time without an offset is in UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time such as 2026-01-31T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _parse_struct(_: click.Context, __: click.Parameter, value: str | None) -> Struct | None:
    """Parse a JSON object."""
    try:
        return None if value is None else Parse(value, Struct())
    except ParseError as error:
        raise click.BadParameter(f'not a JSON object such as {{"score": 3}}: {error}') from None


@click.command()
@click.argument("actor")
@click.argument("verb")
@click.argument("object_id", metavar="[OBJECT]", required=False)
@click.option("--object-name", metavar="TEXT", help="Name of the object, for display.")
@click.option("--target", metavar="ID", help="Id of the thing in which or for which ACTOR did it.")
@click.option("--content", metavar="TEXT", help="Text of the activity, for display.")
@click.option(
    "--to",
    multiple=True,
    metavar="ENTITY",
    help="Deliver the activity to the followers of ENTITY too. Repeatable.",
)
@click.option(
    "--to-only",
    is_flag=True,
    help="Deliver the activity to the followers of --to only, not to those of ACTOR.",
)
@click.option(
    "--mention",
    multiple=True,
    metavar="ENTITY",
    help="Name ENTITY as mentioned in the activity. Repeatable.",
)
@click.option(
    "--time",
    "publish_time",
    callback=_parse_time,
    metavar="TIME",
    help="Time of the activity in ISO 8601; UTC if it has no offset.  [default: now]",
)
@click.option(
    "--external-id",
    metavar="ID",
    help="Your own id of the activity. Publishing the same activity with this id again changes "
    "nothing.",
)
@click.option(
    "--request-id",
    metavar="ID",
    help="Id of this request. Sending the same request with this id again changes nothing, for 24 "
    "hours.",
)
@click.option(
    "--extra",
    callback=_parse_struct,
    metavar="JSON",
    help="JSON object with further data to store in the activity.",
)
@click.option(
    "--wait", is_flag=True, help="Wait until the activity is delivered, at most ten minutes."
)
@json_option("Print the PublishActivityResponse as one line of JSON.")
@server_option
def publish(  # noqa: PLR0913 - an activity has that many parts
    *,
    actor: str,
    verb: str,
    object_id: str | None,
    object_name: str | None,
    target: str | None,
    content: str | None,
    to: Sequence[str],
    to_only: bool,
    mention: Sequence[str],
    publish_time: datetime | None,
    external_id: str | None,
    request_id: str | None,
    extra: Struct | None,
    wait: bool,
    as_json: bool,
    server: str,
) -> None:
    """Publish that ACTOR did VERB (to OBJECT).

    ACTOR is an entity: alice, repo:linux. VERB is any word: push, star, Create. OBJECT is your id
    of the thing: issue:4711.

    \b
    feedsvc publish alice star repo:linux --to repo:linux --content "Neat!"
    """  # noqa: D301 (click's mark: keep this line)
    activity = Activity(
        actor=actor,
        verb=verb,
        object=Ref(id=object_id or "", name=object_name or "")
        if object_id or object_name
        else None,
        target=Ref(id=target) if target else None,
        to=to,
        mentions=mention,
        content=content or "",
        external_id=external_id or "",
        extra=extra,
        audience=AUDIENCE_TO_ONLY if to_only else None,
    )
    if publish_time is not None:
        activity.publish_time.FromDatetime(publish_time)
    request = PublishActivityRequest(
        activity=activity, request_id=request_id or "", wait_for_delivery=wait
    )

    async def work(client: FeedClient) -> PublishActivityResponse:
        return await client.activities.PublishActivity(request)

    response = call_server(server, work, **({"timeout": WAIT_SECONDS} if wait else {}))
    if as_json:
        echo_json(response)
        return
    out = console()
    print_lines(out, activity_line(response.activity))
    repeated = ", was there already" if response.already_published else ""
    summary = _delivery_summary(response.delivery)
    print_lines(out, f"id {response.activity.id}{repeated}; {summary}", indent=0, style="dim")


def _delivery_summary(delivery: Delivery) -> str:
    state = DELIVERY_STATES.get(delivery.state, "delivery unknown")
    # Without followers, or long after the publish, when the service has forgotten the counts.
    if not delivery.audience_count:
        return state
    audience, warm = delivery.audience_count, delivery.delivered_count
    return (
        f"{state} ({audience:,} follower{'s' * (audience != 1)}, put into "
        f"{warm:,} warm feed{'s' * (warm != 1)}, "
        f"{delivery.skipped_cold_count:,} cold ones will find it)"
    )
