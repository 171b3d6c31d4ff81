"""``feedsvc delivery``: the progress of the delivery of an activity."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import click
from activityfeed import FeedClient
from activityfeed.v1.activity_service_pb2 import (
    DELIVERY_STATE_DELIVERED,
    DELIVERY_STATE_FAILED,
    DELIVERY_STATE_PULLED,
    DELIVERY_STATE_QUEUED,
    Delivery,
    GetDeliveryRequest,
    GetDeliveryResponse,
)

from feedsvc.cli.calls_by_id import echo_refusal, echo_rows, outcomes, read_ids
from feedsvc.cli.connection import call_server, json_option, server_option
from feedsvc.cli.exit_statuses import FAILED
from feedsvc.cli.publish import WAIT_SECONDS

#: Seconds between two looks at a delivery with --wait: the first pause, and the longest.
FIRST_PAUSE, MAX_PAUSE = 0.05, 1.0
#: The states of a delivery: a word, and its meaning.
STATES = {
    DELIVERY_STATE_DELIVERED: ("delivered", ""),
    DELIVERY_STATE_QUEUED: ("queued", "workers deliver it"),
    DELIVERY_STATE_PULLED: ("pulled", "delivered: followers read the outbox"),
    DELIVERY_STATE_FAILED: ("failed", "see feedsvc dead-letters"),
}

#: The counts of a delivery: a word, the field, and the meaning.
COUNTS = (
    ("followers", "audience_count", "that the activity is for"),
    ("delivered", "delivered_count", "put into warm feeds"),
    ("cold", "skipped_cold_count", "whose next read finds it"),
)


@click.command(short_help="Show the delivery of each activity.")
@click.argument("activity_ids", metavar="ACTIVITY_ID...", nargs=-1, required=True)
@click.option(
    "--wait", is_flag=True, help="Wait until each delivery has ended, at most ten minutes in all."
)
@json_option("Print, for each ACTIVITY_ID, the GetDeliveryResponse as one line of JSON.")
@server_option
def delivery(*, activity_ids: Sequence[str], wait: bool, as_json: bool, server: str) -> None:
    """Show how far the delivery of each activity is.

    The counts of a delivery by workers are known until ten minutes after its end. Later, and for a
    delivery that the publish itself made, only the state is shown. ACTIVITY_ID - stands for the
    lines of standard input.

    \b
    Exit status: 1 if a delivery failed, or an activity does not exist, or with --wait a delivery
    has not ended in time.
    """  # noqa: D301 (click's mark: keep these lines)
    ids = read_ids(activity_ids)
    deadline = time.monotonic() + (WAIT_SECONDS if wait else 0)

    async def work(client: FeedClient) -> bool:
        async def call(activity_id: str) -> GetDeliveryResponse:
            return await _delivery_at(client, activity_id, deadline)

        is_good = True
        async with aclosing(outcomes(ids, call)) as answers:
            async for outcome in answers:
                if as_json:
                    outcome.echo_json("id")
                elif outcome.response is None:
                    echo_refusal(outcome)
                else:
                    echo_rows(outcome.id, _rows(outcome.response.delivery))
                is_good &= outcome.response is not None and _is_good(
                    outcome.response.delivery, wait=wait
                )
        return is_good

    sys.exit(0 if call_server(server, work) else FAILED)


async def _delivery_at(
    client: FeedClient, activity_id: str, deadline: float
) -> GetDeliveryResponse:
    """Return a delivery that has ended, or that has not ended at ``deadline``."""
    pause = FIRST_PAUSE
    while True:
        response = await client.activities.GetDelivery(GetDeliveryRequest(id=activity_id))
        remaining_seconds = deadline - time.monotonic()
        if response.delivery.state != DELIVERY_STATE_QUEUED or remaining_seconds <= 0:
            return response
        await asyncio.sleep(min(pause, remaining_seconds))
        pause = min(2 * pause, MAX_PAUSE)


def _is_good(shown: Delivery, *, wait: bool) -> bool:
    if shown.state == DELIVERY_STATE_QUEUED:
        return not wait
    return shown.state in {DELIVERY_STATE_DELIVERED, DELIVERY_STATE_PULLED}


def _rows(shown: Delivery) -> Iterator[tuple[str, str, str]]:
    word, meaning = STATES.get(shown.state, ("unknown", ""))
    yield "state", word, meaning
    for label, field, note in COUNTS:
        if shown.HasField(field):
            yield label, f"{getattr(shown, field):,}", note
