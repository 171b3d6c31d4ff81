"""``feedsvc publish``, ``follow`` and ``unfollow``."""

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
from activityfeed.v1.follow_service_pb2 import (
    FollowRequest,
    FollowResponse,
    UnfollowRequest,
    UnfollowResponse,
)
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.struct_pb2 import Struct

from feedsvc.cli.connection import json_option, server_option, talk
from feedsvc.cli.show import activity_line, console, plain

#: Seconds that `publish --wait` waits.
WAIT_SECONDS = 600.0
#: How far a delivery has come, in words.
STATES = {
    DELIVERY_STATE_DELIVERED: "delivered",
    DELIVERY_STATE_QUEUED: "queued: workers deliver it",
    DELIVERY_STATE_PULLED: "delivered: so many follow that they read it themselves",
    DELIVERY_STATE_FAILED: "not delivered to all: see feedsvc dead-letters",
}


def _time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """A time by ISO 8601, in UTC if it does not say where."""
    if value is None:
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time such as 2026-01-31T12:00:00Z") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _struct(_: click.Context, __: click.Parameter, value: str | None) -> Struct | None:
    """A JSON object."""
    try:
        return None if value is None else Parse(value, Struct())
    except ParseError as error:
        raise click.BadParameter(f"not a JSON object: {error}") from None


@click.command()
@click.argument("actor")
@click.argument("verb")
@click.argument("object_id", metavar="[OBJECT]", required=False)
@click.option("--object-name", help="A name to show for the object.")
@click.option("--target", metavar="ID", help="Where it was done, or towards what.")
@click.option("--content", metavar="TEXT", help="Text to show.")
@click.option(
    "--to", multiple=True, metavar="ENTITY", help="Its followers get it as well. Repeatable."
)
@click.option("--to-only", is_flag=True, help="Only the followers of --to get it.")
@click.option("--mention", multiple=True, metavar="ENTITY", help="Named in it. Repeatable.")
@click.option(
    "--time",
    "when",
    callback=_time,
    metavar="TIME",
    help="When it was done (ISO 8601).  [default: now]",
)
@click.option("--external-id", metavar="ID", help="Your id: publishing it again changes nothing.")
@click.option("--request-id", metavar="ID", help="Sending it again changes nothing, for 24 hours.")
@click.option(
    "--extra",
    callback=_struct,
    metavar="JSON",
    help="Anything else to keep with it, a JSON object.",
)
@click.option("--wait", is_flag=True, help="Until it is delivered, or for ten minutes.")
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
    when: datetime | None,
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
    if when is not None:
        activity.publish_time.FromDatetime(when)
    request = PublishActivityRequest(
        activity=activity, request_id=request_id or "", wait_for_delivery=wait
    )

    async def work(client: FeedClient) -> PublishActivityResponse:
        return await client.activities.PublishActivity(request)

    response = talk(server, work, **({"timeout": WAIT_SECONDS} if wait else {}))
    if as_json:
        click.echo(MessageToJson(response, indent=None))
        return
    out = console()
    out.print(activity_line(response.activity))
    before = ", was there already" if response.already_published else ""
    out.print(f"id {response.activity.id}{before}; {_told(response.delivery)}", style="dim")


def _told(delivery: Delivery) -> str:
    state = STATES.get(delivery.state, "delivery unknown")
    if not delivery.audience_count:  # nobody follows, or what was long ago is not known any more
        return state
    audience, warm = delivery.audience_count, delivery.delivered_count
    return (
        f"{state} ({audience:,} follower{'s' * (audience != 1)}, put into "
        f"{warm:,} warm feed{'s' * (warm != 1)}, "
        f"{delivery.skipped_cold_count:,} cold ones will find it)"
    )


@click.command()
@click.argument("follower")
@click.argument("followee")
@json_option("Print the FollowResponse as one line of JSON.")
@server_option
def follow(*, follower: str, followee: str, as_json: bool, server: str) -> None:
    """Make FOLLOWER follow FOLLOWEE.

    The feed of FOLLOWER then holds all that FOLLOWEE's outbox holds.
    """

    async def work(client: FeedClient) -> FollowResponse:
        return await client.follows.Follow(FollowRequest(follower=follower, followee=followee))

    response = talk(server, work)
    if as_json:
        click.echo(MessageToJson(response, indent=None))
        return
    how = "already follows" if response.already_following else "now follows"
    click.echo(f"{plain(follower)} {how} {plain(followee)}")


@click.command()
@click.argument("follower")
@click.argument("followee")
@json_option("Print the UnfollowResponse as one line of JSON.")
@server_option
def unfollow(*, follower: str, followee: str, as_json: bool, server: str) -> None:
    """End that FOLLOWER follows FOLLOWEE.

    What only this brought is gone from the feed of FOLLOWER at once.
    """

    async def work(client: FeedClient) -> UnfollowResponse:
        return await client.follows.Unfollow(UnfollowRequest(follower=follower, followee=followee))

    response = talk(server, work)
    if as_json:
        click.echo(MessageToJson(response, indent=None))
        return
    how = "no longer follows" if response.was_following else "did not follow"
    click.echo(f"{plain(follower)} {how} {plain(followee)}")
