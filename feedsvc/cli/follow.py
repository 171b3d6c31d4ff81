"""``feedsvc follow`` and ``feedsvc unfollow``."""

import click
from activityfeed import FeedClient
from activityfeed.v1.follow_service_pb2 import (
    FollowRequest,
    FollowResponse,
    UnfollowRequest,
    UnfollowResponse,
)

from feedsvc.cli.connection import call_server, echo_json, json_option, server_option
from feedsvc.cli.rendering import plain


@click.command()
@click.argument("follower")
@click.argument("followee")
@json_option("Print the FollowResponse as one line of JSON.")
@server_option
def follow(*, follower: str, followee: str, as_json: bool, server: str) -> None:
    """Make FOLLOWER follow FOLLOWEE.

    The feed of FOLLOWER then shows all activities in the outbox of FOLLOWEE, earlier ones too.
    """

    async def work(client: FeedClient) -> FollowResponse:
        return await client.follows.Follow(FollowRequest(follower=follower, followee=followee))

    response = call_server(server, work)
    if as_json:
        echo_json(response)
        return
    change = "already follows" if response.already_following else "now follows"
    click.echo(f"{plain(follower)} {change} {plain(followee)}")


@click.command(short_help="Make FOLLOWER stop following FOLLOWEE.")
@click.argument("follower")
@click.argument("followee")
@json_option("Print the UnfollowResponse as one line of JSON.")
@server_option
def unfollow(*, follower: str, followee: str, as_json: bool, server: str) -> None:
    """Make FOLLOWER stop following FOLLOWEE.

    The feed of FOLLOWER loses at once all activities that came from FOLLOWEE alone.
    """

    async def work(client: FeedClient) -> UnfollowResponse:
        return await client.follows.Unfollow(UnfollowRequest(follower=follower, followee=followee))

    response = call_server(server, work)
    if as_json:
        echo_json(response)
        return
    change = "no longer follows" if response.was_following else "did not follow"
    click.echo(f"{plain(follower)} {change} {plain(followee)}")
