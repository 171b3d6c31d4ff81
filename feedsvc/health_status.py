"""Health statuses: what the health service answers for each service of the contract."""

from typing import Any

from activityfeed.admin.v1 import admin_service_pb2
from activityfeed.v1 import (
    activity_service_pb2,
    feed_service_pb2,
    follow_service_pb2,
    subscription_service_pb2,
)
from grpc_health.v1 import health, health_pb2

from feedsvc.core.health import Condition

#: The full names of the contract's services.
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (activity_service_pb2, "ActivityService"),
        (follow_service_pb2, "FollowService"),
        (feed_service_pb2, "FeedService"),
        (subscription_service_pb2, "SubscriptionService"),
        (admin_service_pb2, "AdminService"),
    )
)
#: The services that can do nothing useful while the store refuses writes.
WRITING_SERVICES = frozenset(
    name
    for name in SERVICES
    if name.endswith(("ActivityService", "FollowService", "SubscriptionService"))
)


async def set_statuses(servicer: health.aio.HealthServicer, condition: Condition) -> None:
    """Set the status of each service, and of the server as a whole, by the store's condition."""
    for service in ("", *SERVICES):
        await servicer.set(service, status_of(service, condition))


def status_of(service: str, condition: Condition) -> Any:
    """Return the status of a service. An empty name stands for the server as a whole."""
    serves = condition.writes or (condition.reads and service not in WRITING_SERVICES)
    statuses = health_pb2.HealthCheckResponse
    return statuses.SERVING if serves else statuses.NOT_SERVING
