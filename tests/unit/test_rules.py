"""The rules that the contract gives to machines are those that the server goes by.

The rules (protovalidate's) are read from the descriptor set that is published with the stubs. For
each, a request at the limit is let through, and one beyond it is refused by the field's path.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from activityfeed.v1.activity_pb2 import Attachment
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from feedsvc import validation
from feedsvc.batches import Batch
from feedsvc.errors import InvalidRequest
from feedsvc.validation.rules import RULES

SET = Path(__file__).parents[2] / "clients/activityfeed.binpb"
ID = "1898765432109876543"
#: What a field must hold to be let through, where its rule does not say.
GOOD: dict[str, Any] = {"id": ID, "activity_id": ID, "ids": ID, "page_token": "", "verb": "post"}
#: Of the rules over several fields: the request that breaks each, and the path that is named.
ACROSS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "activityfeed.v1.Activity audience.to_only": (
        "PublishActivityRequest",
        lambda request: setattr(request.activity, "audience", 2),
        "activity.to",
    ),
    "activityfeed.v1.FollowRequest followee.another": (
        "FollowRequest",
        lambda request: setattr(request, "followee", request.follower),
        "followee",
    ),
    "activityfeed.v1.SubscribeFeedRequest initial_page_size.or_token": (
        "SubscribeFeedRequest",
        lambda request: (
            setattr(request, "resume_token", "t"),
            setattr(request, "initial_page_size", 1),
        ),
        "initial_page_size",
    ),
    "activityfeed.v1.AddFeedSubscription initial_page_size.or_token": (
        "SubscribeFeedsRequest",
        lambda request: (
            setattr(request.add, "resume_token", "t"),
            setattr(request.add, "initial_page_size", 1),
        ),
        "add.initial_page_size",
    ),
}


def pool_of_rules() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(SET.read_bytes()).file
    known = {file.name: file for file in files}
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for dependency in known[name].dependency:
                add(dependency)
            pool.Add(known[name])

    for name in known:
        add(name)
    return pool


POOL = pool_of_rules()
OPTIONS = {
    kind: message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"google.protobuf.{kind}"))
    for kind in ("FieldOptions", "MessageOptions", "OneofOptions")
}
EXTENSIONS = {
    kind: POOL.FindExtensionByName(f"buf.validate.{name}")
    for kind, name in (("FieldOptions", "field"), ("MessageOptions", "message"))
}
message_factory.GetMessageClassesForFiles(["buf/validate/validate.proto"], POOL)


def rule_of(field: FieldDescriptor) -> Any:
    options = OPTIONS["FieldOptions"].FromString(field.GetOptions().SerializeToString())
    return options.Extensions[EXTENSIONS["FieldOptions"]]


def shown(kind: Descriptor) -> Descriptor:
    """The same message with its rules."""
    return POOL.FindMessageTypeByName(kind.full_name)


REQUESTS = {kind.DESCRIPTOR.name: kind for kind in RULES}


def filled(kind: type[Message]) -> Any:
    """A request that is let through."""
    request: Any = kind()
    if request.DESCRIPTOR.name == "SubscribeFeedsRequest":
        request.add.SetInParent()
    fill(request)
    return request


def fill(message: Any) -> None:
    for field in shown(message.DESCRIPTOR).fields:
        rule = rule_of(field)
        if field.containing_oneof is not None:
            if field.message_type and message.HasField(field.name):
                fill(getattr(message, field.name))
        elif field.is_repeated:
            if rule.repeated.min_items:
                getattr(message, field.name).append(GOOD.get(field.name, "a"))
        elif field.message_type:
            if rule.required:
                getattr(message, field.name).SetInParent()
                fill(getattr(message, field.name))
        elif rule.string.min_bytes:
            setattr(message, field.name, GOOD.get(field.name, field.name))


Change = Callable[[Any], object]
Broken = tuple[str, Change, Change | None]
"""The path of a field, what breaks its rule, and what just keeps it."""


@dataclass(frozen=True)
class Field:
    """A field of a request, and how to get from the request to the message that has it."""

    path: str
    described: FieldDescriptor
    within: Callable[[Any], Any]

    @property
    def rule(self) -> Any:
        return rule_of(self.described)

    def put(self, value: Any) -> Change:
        return lambda request: setattr(self.within(request), self.described.name, value)

    def clear(self, request: Any) -> None:
        self.within(request).ClearField(self.described.name)

    def extend(self, *values: Any) -> Change:
        return lambda request: self.value(request).extend(values)

    def value(self, request: Any) -> Any:
        return getattr(self.within(request), self.described.name)

    def inner(self, request: Any) -> Any:
        """The message that the field holds, or the first one; it is there."""
        value = self.value(request)
        if self.described.is_repeated:
            if not value:
                fill(value.add())
            return value[0]
        if self.described.message_type.name == "Ref" and not value.WhichOneof("subject"):
            value.id = "thing"
        return value


def cases() -> Iterator[tuple[str, Broken]]:
    for name, kind in sorted(REQUESTS.items()):
        for broken in in_message(kind.DESCRIPTOR, "", lambda request: request):
            yield name, broken
    actions = REQUESTS["SubscribeFeedsRequest"].DESCRIPTOR.fields_by_name
    for action in ("add", "remove"):
        chosen = partial(chosen_action, action)
        for broken in in_message(actions[action].message_type, f"{action}.", chosen):
            yield "SubscribeFeedsRequest", broken


def chosen_action(action: str, request: Any) -> Any:
    if not request.HasField(action):
        getattr(request, action).SetInParent()
        fill(getattr(request, action))
    return getattr(request, action)


def in_message(kind: Descriptor, path: str, within: Callable[[Any], Any]) -> Iterator[Broken]:
    for described in shown(kind).fields:
        field = Field(f"{path}{described.name}", described, within)
        yield from in_field(field)
        nested = described.message_type
        if nested and nested.full_name.startswith("activityfeed.") and kind.name not in ONE_OF:
            many = described.is_repeated
            inner = kind.fields_by_name[described.name].message_type
            yield from in_message(inner, f"{field.path}{'[0]' * many}.", field.inner)


ONE_OF = {"SubscribeFeedsRequest"}


def in_field(field: Field) -> Iterator[Broken]:
    rule, path = field.rule, field.path
    match rule.WhichOneof("type"):
        case "string":
            yield from in_text(field, rule.string)
        case "int32":
            assert rule.int32.gte == 0
            yield path, field.put(-1), field.put(0)
        case "enum":
            assert rule.enum.defined_only
            yield path, field.put(77), field.put(1)
        case "timestamp":
            least = rule.timestamp.gte.ToNanoseconds()

            def at(moment: int) -> Change:
                return lambda request: field.value(request).FromNanoseconds(moment)

            yield path, at(least - 1), at(least)
        case "repeated":
            yield from in_list(field, rule.repeated)
        case kind:
            assert kind is None, f"no cases for {kind}"
            if rule.required:
                yield path, field.clear, None


def in_text(field: Field, rule: Any) -> Iterator[Broken]:
    if rule.min_bytes:
        yield field.path, field.put(""), None
    if most := rule.max_bytes:
        yield field.path, field.put("x" * (most + 1)), field.put("x" * most)
        yield field.path, field.put("é" * (most // 2 + 1)), field.put("é" * (most // 2))
    if rule.pattern:
        assert rule.pattern == r"^\P{Cc}*$"
        yield field.path, field.put("a\x85b"), field.put("a\u00a0b")


def in_list(field: Field, rule: Any) -> Iterator[Broken]:
    there = int(rule.min_items > 0)
    if there:
        yield field.path, field.clear, None
    values: list[Any] = [f"{number}" for number in range(rule.max_items + 1)]
    if field.described.message_type:
        values = [Attachment(url=value) for value in values]
    if field.described.name == "ids":
        values = [ID] * len(values)
    yield field.path, field.extend(*values), field.extend(*values[: rule.max_items - there])
    if rule.unique:
        yield f"{field.path}[1]", field.extend("a", "a"), field.extend("a", "b")
    if most := getattr(rule.items.string, "max_bytes", 0):
        first = f"{field.path}[{there}]"
        yield first, field.extend("x" * (most + 1)), field.extend("x" * most)
        yield first, field.extend(""), None
        yield first, field.extend("a\n"), field.extend("a b")


CASES = list(cases())


def refused(request: Message) -> set[str]:
    try:
        validation.check(request)
    except InvalidRequest as error:
        return {violation.field for violation in error.violations}
    return set()


def test_there_are_rules() -> None:
    assert len(CASES) > 150
    without = {"SubscribeAllRequest", "GetFanoutStatusRequest"}
    assert {name for name, _ in CASES} == REQUESTS.keys() - without


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_request_that_has_what_is_required_is_let_through(name: str) -> None:
    assert refused(filled(REQUESTS[name])) == set()


@pytest.mark.parametrize(
    ("name", "broken"),
    [pytest.param(*case, id=f"{case[0]}-{case[1][0]}-{n}") for n, case in enumerate(CASES)],
)
def test_the_server_goes_by_the_rule(name: str, broken: Broken) -> None:
    path, beyond, within = broken
    request = filled(REQUESTS[name])
    beyond(request)
    assert refused(request) == {path}
    if within is not None:
        request = filled(REQUESTS[name])
        within(request)
        assert refused(request) == set()


def test_rules_over_several_fields() -> None:
    found = set()
    for name in {message.full_name for message in messages()}:
        kind = POOL.FindMessageTypeByName(name)
        options = OPTIONS["MessageOptions"].FromString(kind.GetOptions().SerializeToString())
        rule: Any = options.Extensions[EXTENSIONS["MessageOptions"]]
        found |= {f"{name} {one.id}" for one in rule.cel}
    assert found == ACROSS.keys()
    for name, breaks, path in ACROSS.values():
        request = filled(REQUESTS[name])
        breaks(request)
        assert refused(request) == {path}


def messages() -> Iterator[Descriptor]:
    for file in descriptor_pb2.FileDescriptorSet.FromString(SET.read_bytes()).file:
        if file.package.startswith("activityfeed."):
            yield from POOL.FindFileByName(file.name).message_types_by_name.values()


@pytest.mark.parametrize(("kind", "limit"), [("PublishActivity", 500), ("Follow", 1_000)])
def test_batches_hold_as_many_as_the_rule_says(kind: str, limit: int) -> None:
    entry = REQUESTS[f"{kind}Request"]
    (batch,) = (
        message
        for message in messages()
        if message.name.startswith("Batch")
        and "requests" in message.fields_by_name
        and message.fields_by_name["requests"].message_type.name == entry.DESCRIPTOR.name
    )
    rule = rule_of(batch.fields_by_name["requests"]).repeated
    assert (rule.min_items, rule.max_items) == (1, limit)
    empty_entry = b"\x0a\x00"
    validation.check(Batch(entry, empty_entry * limit))
    for count in (0, limit + 1):
        with pytest.raises(InvalidRequest):
            validation.check(Batch(entry, empty_entry * count))
