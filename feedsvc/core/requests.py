"""Request records: the store recognises a repeated mutation by its record."""

import secrets

from feedsvc.config import Limits
from feedsvc.core import keys

#: Seconds for which the store remembers a mutation without a request id. The reply may be lost
#: between the store and the server; the connection then repeats the command.
REPLAY_SECONDS = 60


def record(limits: Limits, rpc: str, entity: str, request_id: str) -> tuple[str, int]:
    """Return the name of a request's record, and for how many seconds the store keeps it.

    A request without a request id gets a name that only this call has.
    """
    if request_id:
        return keys.request(rpc, entity, request_id), limits.request_ttl
    return keys.request(rpc, entity, "\0" + secrets.token_hex(8)), REPLAY_SECONDS
