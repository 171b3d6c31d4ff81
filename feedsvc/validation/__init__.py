"""Validation: the check of each request by the rules of the contract, before the server acts on it.

``checks`` has the checks that rules share, ``rules`` has the rules of each request, and
``activity`` those of an activity.
"""

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from feedsvc.batch_requests import Batch
from feedsvc.contract_limits import BATCH_BYTES
from feedsvc.errors import InvalidRequest, Violation
from feedsvc.validation.checks import FieldChecks
from feedsvc.validation.rules import MAX_BATCH_ENTRIES, RULES

_DEAD_LETTER_ID = re.compile(r"(0|[1-9][0-9]{0,2})-(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")


def check(request: Any) -> None:
    """Raise InvalidRequest with every violation of a request, or of a batch without its entries.

    Raise TypeError for a request of the contract that has no rules.
    """
    checks = FieldChecks()
    if isinstance(request, Batch):
        checks.list_size("requests", request.entries, MAX_BATCH_ENTRIES[request.entry])
        if request.size > BATCH_BYTES:
            checks.refuse("requests", f"must have at most {BATCH_BYTES} bytes serialised, together")
    else:
        check_rules = RULES.get(type(request))
        if check_rules is None:
            if not isinstance(request, Message):
                return  # a stream of requests: its handler checks each of them
            if request.DESCRIPTOR.file.package.startswith("activityfeed."):
                raise TypeError(f"{request.DESCRIPTOR.name} has no rules")
            return  # a request of another package: health, reflection
        check_rules(checks, request)
    if checks.violations:
        raise InvalidRequest(checks.violations)


def decode(decoder: Callable[[bytes], Any], raw: bytes) -> Any:
    """Return the decoded message. Raise InvalidRequest if the bytes are no message of its type.

    gRPC would send the decoder's own text to the caller.
    """
    try:
        return decoder(raw)
    except DecodeError:
        rule = "must be a well-formed message of its type, with strings in UTF-8"
        raise InvalidRequest([Violation("", rule)]) from None


def check_dead_letter_id(letter_id: str) -> None:
    """Raise InvalidRequest if no dead letter can have this id."""
    if not _DEAD_LETTER_ID.fullmatch(letter_id):
        rule = "must be a dead letter's id: <shard>-<milliseconds>-<number>"
        raise InvalidRequest([Violation("id", rule)])
