"""The server applies the same rules as those that the contract states for machines.

The tests read the rules (protovalidate's) from the descriptor set that is published with the stubs.
For each rule the server accepts a request at the limit, and refuses a request beyond the limit with
the path of the field.
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
from feedsvc.batch_requests import Batch
from feedsvc.errors import InvalidRequest
from feedsvc.validation.rules import RULES

SET = Path(__file__).parents[2] / "clients/activityfeed.binpb"
ID = "1898765432109876543"
#: Accepted values of fields whose rule does not tell them.
GOOD: dict[str, Any] = {"id": ID, "activity_id": ID, "ids": ID, "page_token": "", "verb": "post"}
#: By rule over several fields: a request, the change that breaks the rule, and the path that the
#: server names.
RULES_OVER_FIELDS: dict[str, tuple[str, Callable[[Any], None], str]] = {
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
    by_name = {file.name: file for file in files}
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for dependency in by_name[name].dependency:
                add(dependency)
            pool.Add(by_name[name])

    for name in by_name:
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


def with_rules(kind: Descriptor) -> Descriptor:
    """Return the descriptor of the same message with its rules."""
    return POOL.FindMessageTypeByName(kind.full_name)


REQUESTS = {kind.DESCRIPTOR.name: kind for kind in RULES}


def filled(kind: type[Message]) -> Any:
    """Return a request that the server accepts."""
    request: Any = kind()
    if request.DESCRIPTOR.name == "SubscribeFeedsRequest":
        request.add.SetInParent()
    fill(request)
    return request


def fill(message: Any) -> None:
    for field in with_rules(message.DESCRIPTOR).fields:
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
"""The path of a field, a change that breaks its rule, and a change that just keeps the rule."""


@dataclass(frozen=True)
class Field:
    """A field of a request, and the way from the request to the message that has the field."""

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
        """Return the message in the field, or the first one of a list; make it if need be."""
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
    for described in with_rules(kind).fields:
        field = Field(f"{path}{described.name}", described, within)
        yield from in_field(field)
        nested = described.message_type
        if nested and nested.full_name.startswith("activityfeed.") and kind.name not in ONE_OF:
            index = "[0]" * described.is_repeated
            inner = kind.fields_by_name[described.name].message_type
            yield from in_message(inner, f"{field.path}{index}.", field.inner)


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
            first = rule.timestamp.gte.ToNanoseconds()

            def at(moment: int) -> Change:
                return lambda request: field.value(request).FromNanoseconds(moment)

            yield path, at(first - 1), at(first)
        case "repeated":
            yield from in_list(field, rule.repeated)
        case kind:
            assert kind is None, f"no cases for {kind}"
            if rule.required:
                yield path, field.clear, None


def in_text(field: Field, rule: Any) -> Iterator[Broken]:
    if rule.min_bytes:
        yield field.path, field.put(""), None
    if limit := rule.max_bytes:
        yield field.path, field.put("x" * (limit + 1)), field.put("x" * limit)
        yield field.path, field.put("é" * (limit // 2 + 1)), field.put("é" * (limit // 2))
    if rule.pattern:
        assert rule.pattern == r"^\P{Cc}*$"
        yield field.path, field.put("a\x85b"), field.put("a\u00a0b")


def in_list(field: Field, rule: Any) -> Iterator[Broken]:
    filled_count = int(rule.min_items > 0)
    if filled_count:
        yield field.path, field.clear, None
    values: list[Any] = [f"{number}" for number in range(rule.max_items + 1)]
    if field.described.message_type:
        values = [Attachment(url=value) for value in values]
    if field.described.name == "ids":
        values = [ID] * len(values)
    yield field.path, field.extend(*values), field.extend(*values[: rule.max_items - filled_count])
    if rule.unique:
        yield f"{field.path}[1]", field.extend("a", "a"), field.extend("a", "b")
    if limit := getattr(rule.items.string, "max_bytes", 0):
        first = f"{field.path}[{filled_count}]"
        yield first, field.extend("x" * (limit + 1)), field.extend("x" * limit)
        yield first, field.extend(""), None
        yield first, field.extend("a\n"), field.extend("a b")


CASES = list(cases())


def refused_fields(request: Message) -> set[str]:
    try:
        validation.check(request)
    except InvalidRequest as error:
        return {violation.field for violation in error.violations}
    return set()


def test_contract_has_rules_for_every_request_with_fields() -> None:
    assert len(CASES) > 150
    without = {"SubscribeAllRequest", "GetFanoutStatusRequest", "GetServerStatusRequest"}
    assert {name for name, _ in CASES} == REQUESTS.keys() - without


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_request_with_its_required_fields_is_accepted(name: str) -> None:
    assert refused_fields(filled(REQUESTS[name])) == set()


@pytest.mark.parametrize(
    ("name", "broken"),
    [pytest.param(*case, id=f"{case[0]}-{case[1][0]}-{n}") for n, case in enumerate(CASES)],
)
def test_server_applies_the_rule_of_the_contract(name: str, broken: Broken) -> None:
    path, beyond, within = broken
    request = filled(REQUESTS[name])
    beyond(request)
    assert refused_fields(request) == {path}
    if within is not None:
        request = filled(REQUESTS[name])
        within(request)
        assert refused_fields(request) == set()


def test_server_applies_the_rules_over_several_fields() -> None:
    rules = set()
    for name in {message.full_name for message in messages()}:
        kind = POOL.FindMessageTypeByName(name)
        options = OPTIONS["MessageOptions"].FromString(kind.GetOptions().SerializeToString())
        rule: Any = options.Extensions[EXTENSIONS["MessageOptions"]]
        rules |= {f"{name} {expression.id}" for expression in rule.cel}
    assert rules == RULES_OVER_FIELDS.keys()
    for name, breaks, path in RULES_OVER_FIELDS.values():
        request = filled(REQUESTS[name])
        breaks(request)
        assert refused_fields(request) == {path}


def messages() -> Iterator[Descriptor]:
    for file in descriptor_pb2.FileDescriptorSet.FromString(SET.read_bytes()).file:
        if file.package.startswith("activityfeed."):
            yield from POOL.FindFileByName(file.name).message_types_by_name.values()


@pytest.mark.parametrize(("kind", "limit"), [("PublishActivity", 500), ("Follow", 1_000)])
def test_batch_accepts_as_many_entries_as_its_rule(kind: str, limit: int) -> None:
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
