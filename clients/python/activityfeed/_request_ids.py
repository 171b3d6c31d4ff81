"""Request ids for mutations, with which a repeated call changes nothing."""

import uuid
from typing import Any, TypeVar

from activityfeed.v1.activity_service_pb2 import BatchPublishActivitiesRequest
from activityfeed.v1.follow_service_pb2 import BatchFollowRequest

_Request = TypeVar("_Request")


def with_request_ids(request: _Request) -> _Request:
    """Return the request, or a copy with new request ids if it is a mutation that lacks them.

    The original stays as it is, because the caller may send the same message again and mean a
    second call.
    """
    copy: Any = request
    if isinstance(request, BatchPublishActivitiesRequest | BatchFollowRequest):
        copy = type(request)()
        copy.CopyFrom(request)
        for entry in copy.requests:
            entry.request_id = entry.request_id or uuid.uuid4().hex
    elif getattr(request, "request_id", None) == "":
        copy = type(request)()
        copy.CopyFrom(request)
        copy.request_id = uuid.uuid4().hex
    identified: _Request = copy
    return identified
