"""Ids: their parts, their order, their text, and the numbers of shards and sequences."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from feedsvc.core import ids

MS = st.integers(ids.FIRST_MS, ids.LAST_MS)
SEQUENCE = st.integers(0, ids.SEQUENCES - 1)
SHARD = st.integers(0, 255)
PARTS = st.tuples(MS, SEQUENCE, SHARD)


@given(PARTS)
def test_id_holds_its_time_and_shard(parts: tuple[int, int, int]) -> None:
    ms, sequence, shard = parts
    activity_id = ids.make(ms, sequence, shard)
    assert ids.ms_of(activity_id) == ms
    assert ids.shard_of(activity_id) == shard
    assert activity_id >> 8 & 0x1FFF == sequence
    assert activity_id < 1 << 63


@given(PARTS, PARTS)
def test_strings_of_ids_compare_as_their_parts_do(
    first_parts: tuple[int, int, int], second_parts: tuple[int, int, int]
) -> None:
    first, second = ids.make(*first_parts), ids.make(*second_parts)
    assert len(str(first)) == len(str(second)) == 19
    assert (str(first) < str(second)) == (first_parts < second_parts)


@given(MS, SHARD)
def test_sequence_that_overflows_carries_into_the_millisecond(ms: int, shard: int) -> None:
    last = ids.make(ms, ids.SEQUENCES - 1, shard)
    assert last + ids.STEP == ids.make(ms + 1, 0, shard)


def test_first_and_last_time_are_those_of_the_contract() -> None:
    first = datetime(1985, 2, 9, 22, 45, 58, 204_000, tzinfo=UTC)
    assert round(first.timestamp() * 1000) == ids.FIRST_MS
    assert ids.make(ids.FIRST_MS - 1, 0, 0) < 10**18 <= ids.make(ids.FIRST_MS, 0, 0)
    last = datetime.fromtimestamp(ids.LAST_MS / 1000, tz=UTC)
    assert last.year == 2109
    assert ids.make(ids.LAST_MS, ids.SEQUENCES - 1, 255) == (1 << 63) - 1


@given(st.integers(0, (1 << 63) - 1))
def test_ids_of_19_digits_are_parsed(number: int) -> None:
    assert ids.parse(f"{number:019}") == number


@given(st.integers(1 << 63, 10**19 - 1))
def test_number_beyond_64_bits_is_no_id(number: int) -> None:
    assert ids.parse(str(number)) is None


DIGITS = st.text(st.characters(categories=["Nd"]), min_size=18, max_size=20)


@given(st.text() | DIGITS | st.text("0123456789", min_size=18, max_size=20))
def test_only_19_ascii_digits_are_an_id(text: str) -> None:
    parsed = ids.parse(text)
    is_number = len(text) == 19 and all(character in "0123456789" for character in text)
    if parsed is None:
        assert not is_number or int(text) >= 1 << 63
    else:
        assert is_number
        assert f"{parsed:019}" == text


@given(st.text(), st.sampled_from([1 << power for power in range(9)]))
def test_shard_of_an_entity_is_valid_and_always_the_same(entity: str, shards: int) -> None:
    shard = ids.shard_for(entity, shards)
    assert 0 <= shard < shards
    assert ids.shard_for(entity, shards) == shard
    assert ids.shard_for(entity, 256) % shards == shard


def test_entities_spread_evenly_over_shards() -> None:
    entity_counts = [0] * 16
    for number in range(16_000):
        entity_counts[ids.shard_for(f"user {number}", 16)] += 1
    assert min(entity_counts) > 800
    assert max(entity_counts) < 1_200


@given(st.text(), st.text())
def test_sequence_of_a_request_is_valid_and_always_the_same(actor: str, unique: str) -> None:
    sequence = ids.sequence_for(actor, unique)
    assert 0 <= sequence < ids.SEQUENCES
    assert ids.sequence_for(actor, unique) == sequence


def test_sequences_of_an_actor_spread() -> None:
    sequences = {ids.sequence_for("alice", str(number)) for number in range(1_000)}
    assert len(sequences) > 850
