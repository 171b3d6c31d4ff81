"""``feedsvc feed``."""

import click
from activityfeed import FeedClient
from activityfeed.v1.feed_pb2 import PAGE_END_RETENTION, FeedPage

from feedsvc.cli.connection import call_server, echo_json, json_option, server_option
from feedsvc.cli.rendering import console, item_line, plain, print_lines


@click.command(short_help="Print the feed of USER.")
@click.argument("user")
@click.option("--all", "all_pages", is_flag=True, help="Print all pages, not only the newest.")
@click.option(
    "--page-size",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Activities of a page.",
)
@json_option("Print each FeedItem as one line of JSON.")
@server_option
def feed(*, user: str, all_pages: bool, page_size: int, as_json: bool, server: str) -> None:
    """Print the feed of USER: the activities of all that USER follows, newest first."""

    async def work(client: FeedClient) -> None:
        await _print_feed(client, user, page_size, all_pages=all_pages, as_json=as_json)

    call_server(server, work)


async def _print_feed(
    client: FeedClient, user: str, page_size: int, *, all_pages: bool, as_json: bool
) -> None:
    out = console()
    printed = 0
    page = FeedPage()
    async for page in client.pages(user, page_size=page_size):
        for item in page.items:
            if as_json:
                echo_json(item)
            else:
                print_lines(out, item_line(item))
        printed += len(page.items)
        if printed and not all_pages:  # a page may be empty and not be the last
            break
    if not as_json and (note := _note(page, user, printed)):
        print_lines(out, note, indent=0, style="dim")


def _note(last_page: FeedPage, user: str, printed: int) -> str:
    """Return the line to print below the items, or an empty text."""
    if last_page.next_page_token:
        return "There may be more: --all"
    if last_page.end == PAGE_END_RETENTION:
        return "Older activities have been trimmed."
    if not printed:
        return f"Nothing yet. Follow something: feedsvc follow {plain(user)} SOMEONE"
    return ""
