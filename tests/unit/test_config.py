"""Settings: their bounds, the rules between them, and what a repr shows."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedsvc.config import Config, ConfigError, Limits

BOUNDED = [
    (kind, setting.name, setting.metadata["low"], setting.metadata["high"])
    for kind in (Limits, Config)
    for setting in dataclasses.fields(kind)
    if "low" in setting.metadata
]
FEED, SLACK, OUTBOX = (
    next((low, high) for _, name, low, high in BOUNDED if name == setting)
    for setting in ("feed_cap", "feed_slack", "outbox_cap")
)


def test_defaults_are_those_of_the_contract() -> None:
    limits, config = Limits(), Config()
    assert (limits.shards, limits.feed_cap, limits.outbox_cap) == (16, 800, 1_000)
    assert (limits.max_followees, limits.request_ttl) == (10_000, 86_400)
    assert (limits.log_lease, limits.log_cap) == (900, 1_000)
    assert (config.checkpoint_seconds, config.max_request_bytes) == (15, 4 << 20)
    assert config.host == "127.0.0.1", "there is no authentication"


@pytest.mark.parametrize(("kind", "name", "low", "high"), BOUNDED)
@pytest.mark.parametrize("over", [1, 1_000_000])
def test_value_out_of_bounds_is_refused_by_name(
    kind: Any, name: str, low: int, high: int, over: int
) -> None:
    for value in (low - over, high + over):
        with pytest.raises(ConfigError, match=f"^{name} must be {low} to {high}, not {value}$"):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "low", "high"), BOUNDED)
def test_bounds_themselves_are_accepted(kind: Any, name: str, low: int, high: int) -> None:
    # Settings that depend on this setting are set to match.
    matching: dict[str, dict[str, Any]] = {
        "outbox_cap": {"feed_cap": 10, "feed_slack": 0},
        "feed_cap": {"outbox_cap": OUTBOX[1]},
        "feed_slack": {"outbox_cap": OUTBOX[1]},
        "checkpoint_seconds": {"limits": Limits(log_lease=86_400)},
    }
    for value in (low, high):
        configured = kind(**(matching.get(name, {}) | {name: value}))
        assert getattr(configured, name) == value


@given(st.integers(1, 256))
def test_shards_are_a_power_of_two(shards: int) -> None:
    if shards.bit_count() == 1:
        assert Limits(shards=shards).shards == shards
    else:
        with pytest.raises(ConfigError, match=f"shards must be a power of two, not {shards}"):
            Limits(shards=shards)


@given(st.integers(*FEED), st.integers(*SLACK), st.integers(*OUTBOX))
def test_outbox_must_hold_as_much_as_a_feed(feed: int, slack: int, outbox: int) -> None:
    if outbox >= feed + slack:
        Limits(feed_cap=feed, feed_slack=slack, outbox_cap=outbox)
    else:
        with pytest.raises(ConfigError, match=r"outbox_cap .* feed_cap \+ feed_slack"):
            Limits(feed_cap=feed, feed_slack=slack, outbox_cap=outbox)


def test_checkpoints_must_come_before_a_log_expires() -> None:
    limits = Limits(log_lease=30)
    Config(checkpoint_seconds=10, limits=limits)
    with pytest.raises(ConfigError, match=r"checkpoint_seconds .* a third of log_lease"):
        Config(checkpoint_seconds=11, limits=limits)


def test_password_of_the_store_is_in_no_repr() -> None:
    config = Config(redis_url="redis://user:hunter2@store:6379")
    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config)
    assert "hunter2" not in f"{config!r:>500}"


def test_configuration_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.limits.shards = 1  # type: ignore[misc]


SETTINGS = [
    (kind, setting)
    for kind in (Limits, Config)
    for setting in dataclasses.fields(kind)
    if setting.name != "limits"
]
#: Names of the flags, with underscores.
FLAGS = {setting.metadata.get("flag", setting.name) for _, setting in SETTINGS}


@pytest.mark.parametrize(
    ("kind", "setting"), SETTINGS, ids=lambda value: getattr(value, "name", "")
)
def test_every_setting_has_a_help_of_whole_sentences(kind: Any, setting: Any) -> None:
    text = setting.metadata["help"]
    assert text[0].isupper()
    assert text.endswith(".")
    assert not text.endswith("..")
    assert "  " not in text
    assert "- " not in text, "a flag is broken"
    for name in re.findall(r"--([a-z-]+)", text):
        assert name.replace("-", "_") in FLAGS


@pytest.mark.parametrize(
    ("kind", "setting"), SETTINGS, ids=lambda value: getattr(value, "name", "")
)
def test_limits_are_in_groups_of_settings_that_all_servers_share(kind: Any, setting: Any) -> None:
    assert setting.metadata["group"].is_shared == (kind is Limits)


def test_defaults_are_within_bounds() -> None:
    for _, setting in SETTINGS:
        if "low" in setting.metadata:
            assert setting.metadata["low"] <= setting.default <= setting.metadata["high"]
    assert isinstance(Config().data_dir, Path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": -1}, "port must be 0 to 65535, not -1"),
        ({"limits": {"shards": 3}}, "shards must be a power of two, not 3"),
        (
            {"limits": {"outbox_cap": 500}},
            (
                "outbox_cap (500) must be at least feed_cap + feed_slack (850): a warm feed "
                "must not keep an activity that its outbox has dropped"
            ),
        ),
        (
            {"checkpoint_seconds": 600},
            (
                "checkpoint_seconds (600) must be at most a third of log_lease (900): a quiet "
                "stream keeps its log by reading it at each heartbeat"
            ),
        ),
    ],
)
def test_a_refusal_names_the_settings_and_the_rule(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Config(**settings | {"limits": Limits(**settings.get("limits", {}))})
    assert str(refusal.value) == message
