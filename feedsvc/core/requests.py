"""Request records: by these the store notices that a mutation is repeated."""

import secrets

from feedsvc.config import Limits
from feedsvc.core import keys

#: Seconds for which a mutation without a request id is remembered, in case its reply is lost
#: between the store and us, and the connection repeats it.
REPLAY_SECONDS = 60


def record(limits: Limits, rpc: str, entity: str, request_id: str) -> tuple[str, int]:
    """The name of a request's record, and for how many seconds the store keeps it.

    Without a request id the name is this call's own.
    """
    if request_id:
        return keys.request(rpc, entity, request_id), limits.request_ttl
    return keys.request(rpc, entity, "\0" + secrets.token_hex(8)), REPLAY_SECONDS
