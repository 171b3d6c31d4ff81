"""The checks that the rules of several requests share."""

import re
from collections.abc import Iterable, Sized
from typing import Any

from activityfeed.v1.view_pb2 import View
from google.protobuf.unknown_fields import UnknownFieldSet

from feedsvc.contract_limits import ENTITY_BYTES, REQUEST_ID_BYTES, SUBSCRIPTION_ID_BYTES
from feedsvc.core import ids
from feedsvc.errors import Violation

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class FieldChecks:
    """The checks of one request; they collect its violations.

    Each check gets the path of a field, such as ``activity.to[3]``, and the value of the field.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def refuse(self, field: str, rule: str) -> None:
        """Note that a field breaks a rule."""
        self.violations.append(Violation(field, rule))

    def text(
        self,
        field: str,
        value: str,
        max_bytes: int,
        *,
        required: bool = False,
        allow_control: bool = False,
    ) -> None:
        """Check the bytes and characters of a text.

        ``allow_control`` allows control characters: the text is not used as a name.
        """
        if not value:
            if required:
                self.refuse(field, "is required")
        # A character has at most 4 bytes, so that most texts need not be encoded.
        elif len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
            self.refuse(field, f"must have at most {max_bytes} bytes of UTF-8")
        elif not allow_control and _CONTROL_CHARACTER.search(value):
            self.refuse(field, "must not contain control characters")

    def entity(self, field: str, value: str, *, required: bool = True) -> None:
        """Check an entity id."""
        self.text(field, value, ENTITY_BYTES, required=required)

    def distinct_entities(self, field: str, values: Iterable[str], limit: int) -> None:
        """Check a list of at most ``limit`` entity ids, none of them twice."""
        entities = list(values)
        if len(entities) > limit:
            self.refuse(field, f"must have at most {limit} entries")
            return
        earlier: set[str] = set()
        for index, entity in enumerate(entities):
            self.entity(f"{field}[{index}]", entity)
            if entity in earlier:
                self.refuse(f"{field}[{index}]", "must not repeat an earlier entry")
            earlier.add(entity)

    def viewer(self, request: Any, prefix: str = "") -> None:
        """Check the viewer, if the request has one. ``prefix`` begins the path of the field."""
        self.entity(f"{prefix}viewer", request.viewer, required=False)

    def view(self, request: Any, prefix: str = "") -> None:
        """Refuse a view that this server does not know: the server would show another one."""
        if request.HasField("view"):
            view: View = request.view
            if len(UnknownFieldSet(view)) or len(UnknownFieldSet(view.flat)):
                self.refuse(f"{prefix}view", "must be a view that this server knows: flat")

    def request_id(self, value: str) -> None:
        """Check the id by which a mutation may be repeated."""
        self.text("request_id", value, REQUEST_ID_BYTES, allow_control=True)

    def subscription_id(self, field: str, value: str) -> None:
        """Check the name of a subscription on a stream."""
        self.text(field, value, SUBSCRIPTION_ID_BYTES, required=True, allow_control=True)

    def activity_id(self, field: str, value: str) -> None:
        """Check the decimal form of an activity's id."""
        if ids.parse(value) is None:
            self.refuse(field, "must be an activity id: 19 decimal digits")

    def page_size(self, request: Any) -> None:
        """Check the page size. A page size above the limit is no violation: it is clamped."""
        if request.page_size < 0:
            self.refuse("page_size", "must not be negative")

    def list_size(self, field: str, values: Sized, limit: int) -> None:
        """Check that a list has 1 to ``limit`` entries."""
        if not len(values):
            self.refuse(field, "must have at least one entry")
        elif len(values) > limit:
            self.refuse(field, f"must have at most {limit} entries")
