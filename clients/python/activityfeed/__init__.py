"""The activityfeed.v1 client: messages and stubs in ``activityfeed.v1``, a thin layer over them here."""

from activityfeed.client import FeedClient, reason, violations

__all__ = ["FeedClient", "reason", "violations"]
