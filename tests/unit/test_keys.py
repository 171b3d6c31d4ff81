import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from feedsvc.config import Limits
from feedsvc.core import keys, scripts

SHARDS = [1 << power for power in range(9)]
#: Entity ids as the contract allows them, with characters that mean something to a store.
ENTITY = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("{}:*[]?-+ \u00e9"), min_size=1
)
BUILDERS = {
    "e": keys.edges,
    "w": keys.followers,
    "p": keys.pulled,
    "f": keys.feed,
}


@pytest.mark.parametrize("shards", SHARDS)
def test_tags_spread_the_slots_evenly(shards: int) -> None:
    tags = keys.tags(shards)
    assert len(set(tags)) == shards
    width = REDIS_CLUSTER_HASH_SLOTS // shards
    for shard, tag in enumerate(tags):
        assert re.fullmatch(r"\{\d+\}", tag)
        assert key_slot(tag.encode()) // width == shard


@settings(deadline=None)  # the first example computes the tags
@given(ENTITY, st.sampled_from(SHARDS))
def test_all_keys_of_a_shard_share_its_slot(entity: str, shards: int) -> None:
    """An id may hold braces."""
    tags = keys.tags(shards)
    activities = keys.activities(tags, [1 << 60 | shard for shard in range(shards)])
    for tag, activity in zip(tags, activities, strict=True):
        slot = key_slot(tag.encode())
        assert key_slot(activity.encode()) == slot
        for build in BUILDERS.values():
            assert key_slot(build(tag, entity).encode()) == slot
        for key in (
            keys.live(tag),
            keys.trim_notes(tag),
            keys.tallies(tag),
            keys.dead(tag),
            keys.wake(tag),
        ):
            assert key_slot(key.encode()) == slot


@given(ENTITY, ENTITY)
def test_no_two_names_share_a_key(name: str, other_name: str) -> None:
    tag = keys.tags(16)[3]
    built = [build(tag, entity) for build in BUILDERS.values() for entity in {name, other_name}]
    built += [
        keys.live(tag),
        keys.trim_notes(tag),
        keys.tallies(tag),
        keys.dead(tag),
        keys.wake(tag),
        keys.META,
    ]
    assert len(set(built)) == len(built)


@given(ENTITY, st.text(min_size=1), ENTITY, st.text(min_size=1))
def test_no_two_requests_share_a_name(
    entity: str, request_id: str, other_entity: str, other_id: str
) -> None:
    """No entity id holds the NUL before the request id."""
    if (entity, request_id) != (other_entity, other_id):
        assert keys.request("p", entity, request_id) != keys.request("p", other_entity, other_id)
    assert keys.request("p", entity, request_id) != keys.request("d", entity, request_id)


def test_a_request_without_an_id_has_no_name() -> None:
    assert keys.request("p", "alice", "") == ""


def test_every_kind_has_a_letter_of_its_own_and_a_description() -> None:
    letters = list(keys._KINDS.values())
    assert len(set(letters)) == len(letters)
    for kind in keys.KINDS:
        assert re.fullmatch(rf"{kind.letter}((<incarnation>)?:.+)?", kind.template), kind.name
        assert kind.type in {"string", "list", "hash", "set", "zset", "stream"}
        assert kind.description.endswith("."), kind.name
    names = " ".join(kind.description for kind in keys.KINDS)
    scripts_named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", names))
    settings = set(Limits.__dataclass_fields__)
    assert scripts_named - settings <= set(scripts.load(Limits()))


def test_scripts_and_core_build_the_same_keys() -> None:
    for letter, build in BUILDERS.items():
        assert build("{0}", "x") == f"{{0}}{letter}:x"
    names = keys.lua_names()
    for name, letter in keys._KINDS.items():
        single = name in keys._SINGLE
        assert names[name] == (f"(TAG .. '{letter}')" if single else f"'{letter}'")


def test_no_script_builds_a_key_by_itself() -> None:
    """Scripts go through key(), LIVE, TRIM_NOTES and WAKE: the schema stands in one place."""
    folder = Path(inspect.getsourcefile(scripts) or "").parent / "lua"
    for path in folder.rglob("*.lua"):
        if path.stem not in scripts.SHARDLESS:
            source = re.sub(r"--.*", "", path.read_text())
            assert not re.search(r"\bTAG\b|(\btag|_tag|KEYS\[[^]]*\]) *\.\.", source), path.name
