"""The client of the activity feed: a thin layer over the stubs of ``activityfeed.v1``."""

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
