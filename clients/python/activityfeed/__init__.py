"""The activity feed's client: a thin layer over the messages and stubs of ``activityfeed.v1``."""

from activityfeed.client import FeedClient, reason, retry_after, violations

__all__ = ["FeedClient", "reason", "retry_after", "violations"]
