"""``feedsvc publish``."""

import shlex
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import grpc
from activityfeed import FeedClient
from activityfeed.client import DEFAULT_SECONDS
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
from google.protobuf.json_format import MessageToJson, Parse, ParseError, SerializeToJsonError
from google.protobuf.struct_pb2 import Struct

from feedsvc.cli.connection import (
    CallFailed,
    call_server,
    check_connection,
    echo_json,
    json_option,
    server_option,
)
from feedsvc.cli.rendering import activity_line, console, plain, print_lines
from feedsvc.cli.standard_streams import OutputFailed

#: Seconds that `publish --wait` waits.
WAIT_SECONDS = 600.0
#: Status codes of a call whose outcome is not known: the activity may have been published.
UNKNOWN_OUTCOME = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DATA_LOSS,
    }
)
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
    if value is None:
        return None
    try:
        extra = Parse(value, Struct())
    except ParseError as error:
        text = plain(str(error))
        raise click.BadParameter(f'not a JSON object such as {{"score": 3}}: {text}') from None
    try:
        MessageToJson(extra)
    except (SerializeToJsonError, ValueError):  # the parser takes what the answer could not show
        raise click.BadParameter("JSON has no NaN and no Infinity: write null") from None
    return extra


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
        activity=activity, request_id=request_id or uuid.uuid4().hex, wait_for_delivery=wait
    )
    response = _publish(request, server, WAIT_SECONDS if wait else DEFAULT_SECONDS)
    try:
        _print_response(response, as_json=as_json)
    except (OutputFailed, click.ClickException) as error:
        click.echo(f"The activity was published, with the id {response.activity.id}.", err=True)
        raise error from None


def _publish(
    request: PublishActivityRequest, server: str, seconds: float
) -> PublishActivityResponse:
    """Publish an activity. Of a call without an answer, print how to repeat it safely."""
    is_sent = False

    async def work(client: FeedClient) -> PublishActivityResponse:
        nonlocal is_sent
        await check_connection(server)
        is_sent = True
        return await client.activities.PublishActivity(request)

    try:
        return call_server(server, work, timeout=seconds)
    except CallFailed as error:
        if error.error.code() in UNKNOWN_OUTCOME:
            text = error.message + _how_to_repeat(request.request_id)
            raise CallFailed(text, error.error) from None
        raise
    except KeyboardInterrupt:
        if is_sent:
            click.echo(f"Interrupted{_how_to_repeat(request.request_id)}", err=True)
        raise


def _how_to_repeat(request_id: str) -> str:
    program, *arguments = sys.argv
    command = [sys.executable, "-m", "feedsvc"] if program.endswith("__main__.py") else [program]
    if request_id not in " ".join(arguments):
        start = arguments.index("publish") + 1
        arguments[start:start] = ["--request-id", request_id]
    return (
        "\nThe activity may have been published. This command publishes it only if it was not, "
        f"for 24 hours:\n{shlex.join([*command, *arguments])}"
    )


def _print_response(response: PublishActivityResponse, *, as_json: bool) -> None:
    if as_json:
        echo_json(response)
        return
    out = console()
    print_lines(out, activity_line(response.activity))
    repeated = ", was there already" if response.already_published else ""
    summary = delivery_summary(response.delivery)
    print_lines(out, f"id {response.activity.id}{repeated}; {summary}", indent=0, style="dim")


def delivery_summary(delivery: Delivery) -> str:
    """Return the state of a delivery and its counts in words."""
    state = DELIVERY_STATES.get(delivery.state, "delivery unknown")
    # Without followers, or long after the publish, when the service has forgotten the counts.
    if not delivery.audience_count:
        return state
    audience, warm = delivery.audience_count, delivery.delivered_count
    cold = delivery.skipped_cold_count
    return (
        f"{state} ({audience:,} follower{'s' * (audience != 1)}, put into "
        f"{warm:,} warm feed{'s' * (warm != 1)}, "
        f"{cold:,} cold one{'s' * (cold != 1)} will find it)"
    )
