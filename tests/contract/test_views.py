"""Views: every method that takes a view refuses a view that it does not know."""

from activityfeed.v1.activity_service_pb2 import ListActivitiesRequest
from activityfeed.v1.feed_service_pb2 import GetFeedRequest
from activityfeed.v1.subscription_service_pb2 import (
    GetFeedEventsRequest,
    SubscribeActivitiesRequest,
    SubscribeAllRequest,
    SubscribeFeedRequest,
)
from activityfeed.v1.view_pb2 import FlatView, View

from tests.serving import Service, expect_refusal


async def test_unknown_view_is_refused_by_every_method_that_takes_a_view(service: Service) -> None:
    # Another kind of view; an unknown field of the flat view.
    for unknown in (b"\x12\x00", b"\x0a\x02\x0a\x00"):
        view = View.FromString(unknown)
        rules = {"view": "must be a view that this server knows: flat"}
        for call in (
            service.feeds.GetFeed(GetFeedRequest(user="bob", view=view)),
            service.activities.ListActivities(ListActivitiesRequest(entity="bob", view=view)),
            service.subscriptions.GetFeedEvents(GetFeedEventsRequest(user="bob", view=view)),
            service.subscriptions.SubscribeFeed(SubscribeFeedRequest(user="bob", view=view)).read(),
            service.subscriptions.SubscribeActivities(
                SubscribeActivitiesRequest(entity="bob", view=view)
            ).read(),
            service.subscriptions.SubscribeAll(SubscribeAllRequest(view=view)).read(),
        ):
            assert (await expect_refusal(call)).rules == rules
    flat = View(flat=FlatView())
    page = await service.page("bob", view=flat)
    assert await service.page("bob", view=View()) == page, "the default is flat"
