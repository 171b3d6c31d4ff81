"""The contract as a whole: every method has all that a method must have, and is documented."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from activityfeed.admin.v1 import admin_service_pb2
from activityfeed.v1 import (
    activity_service_pb2,
    feed_service_pb2,
    follow_service_pb2,
    subscription_service_pb2,
)
from activityfeed.v1.error_reason_pb2 import ErrorReason
from google.protobuf.descriptor import MethodDescriptor

from feedsvc import error_mapping, validation
from feedsvc.batch_requests import ENTRY_TYPES
from feedsvc.validation.rules import RULES
from tests.contract.bad_input.cases import BAD
from tests.contract.bad_input.requests import NOTHING_REQUIRED, RPCS

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos/activityfeed"
FILES = (
    activity_service_pb2,
    feed_service_pb2,
    follow_service_pb2,
    subscription_service_pb2,
    admin_service_pb2,
)


def methods() -> Iterator[MethodDescriptor]:
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


METHODS = {method.name: method for method in methods()}


def comment_of(method: str) -> str:
    """Return the comment above a method in its proto."""
    for path in PROTOS.rglob("*.proto"):
        if match := re.search(rf"((?:  //.*\n)+)  rpc {method}\(", path.read_text()):
            return match[1]
    raise AssertionError(method)


def test_contract_has_all_methods() -> None:
    assert len(METHODS) == 28
    packages = {method.containing_service.file.package for method in METHODS.values()}
    assert packages == {"activityfeed.v1", "activityfeed.admin.v1"}


@pytest.mark.parametrize("name", METHODS)
def test_every_request_has_validation_rules(name: str) -> None:
    method = METHODS[name]
    request_type = method.input_type._concrete_class
    assert request_type in RULES or name in ENTRY_TYPES


@pytest.mark.parametrize("name", [name for name in METHODS if name != "SubscribeFeeds"])
def test_every_method_is_tested_with_bad_input(name: str) -> None:
    """tests/contract/test_subscribe_feeds.py tests bad requests of SubscribeFeeds."""
    assert name in RPCS
    assert name in NOTHING_REQUIRED or any(case.rpc == name for case in BAD)


def test_request_without_rules_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, feed_service_pb2.GetFeedRequest)
    with pytest.raises(TypeError):
        validation.check(feed_service_pb2.GetFeedRequest(user="bob"))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_documents_its_errors_and_when_to_retry(name: str) -> None:
    comment = comment_of(name)
    assert "Errors:" in comment
    if not METHODS[name].server_streaming:
        assert re.search(r"Retry: |UNAVAILABLE: retry ", comment)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_deadline_and_a_retry_class(name: str) -> None:
    config = json.loads((ROOT / "clients/service_config.json").read_text())
    method = METHODS[name]
    service = method.containing_service.full_name
    entries = [
        entry
        for entry in config["methodConfig"]
        if {"service": service, "method": name} in entry["name"]
    ]
    assert len(entries) == 1
    (entry,) = entries
    if method.server_streaming:
        assert entry.keys() == {"name"}, "a stream has no deadline, and its client resumes it"
        return
    assert re.fullmatch(r"\d+s", entry["timeout"])
    assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def reasons_by_method() -> dict[str, set[str]]:
    """Return the table of docs/errors.md: the reasons of each method."""
    _, text = (ROOT / "docs/errors.md").read_text().split("## By method")
    reasons: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"\| (\w+) \| (.*) \|$", line):
            reasons[match[1]] = set(re.findall(r"`([A-Z_]+)`", match[2]))
    return reasons


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_row_in_the_table_of_errors(name: str) -> None:
    assert name in reasons_by_method()
    comment = comment_of(name)
    for reason in ErrorReason.keys():  # noqa: SIM118 (no mapping)
        short_reason = reason.removeprefix("ERROR_REASON_")
        if re.search(rf"\b{short_reason}\b", comment):
            assert (
                short_reason in reasons_by_method()[name]
                or short_reason in reasons_by_method()["all"]
            ), f"{short_reason} is not in its row"


def test_every_reason_is_documented_and_used() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    used_reasons = {ErrorReason.Name(reason) for _, reason in error_mapping.CODES.values()}
    for reason in ErrorReason.keys()[1:]:
        assert f"`{reason.removeprefix('ERROR_REASON_')}`" in text
        assert reason in used_reasons or reason == "ERROR_REASON_INTERNAL"


@pytest.mark.parametrize("path", sorted(PROTOS.rglob("*.proto")), ids=lambda path: path.stem)
def test_every_file_names_its_package_in_each_language(path: Path) -> None:
    text = path.read_text()
    for option in (
        *("go_package", "java_package", "java_multiple_files", "java_outer_classname"),
        *("csharp_namespace", "php_namespace", "ruby_package"),
    ):
        assert f"\noption {option} = " in text


def test_no_message_is_nested_in_another_message() -> None:
    for path in PROTOS.rglob("*.proto"):
        assert not re.search(r"^\s+(message|enum) ", path.read_text(), re.MULTILINE)
