"""The activity feed's client: a thin layer over the messages and stubs of ``activityfeed.v1``."""

from activityfeed.blocking import BlockingFeedClient
from activityfeed.client import FeedClient, fresh_token, reason, retry_after, violations

__all__ = [
    "BlockingFeedClient",
    "FeedClient",
    "fresh_token",
    "reason",
    "retry_after",
    "violations",
]
