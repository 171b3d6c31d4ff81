"""The packed list of lua/lib/packed.lua compared with a simple model, on a real store."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedsvc.core import scripts

COLD, ADDED, PRESENT, BELOW = 0, 1, 2, 3
LIST = "{0}f:packed"
#: Examples share a store; each example begins with its own list.
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LIBRARY = "\n".join(scripts.libraries()[name] for name in ("arrays", "packed"))
#: Scripts that call a function of the library with ARGV, on KEYS[1].
CALLS = {
    "insert": """
        local id, cap, max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
        local outcome, cost = packed_insert(KEYS[1], id, cap, max)
        return {outcome, cost}""",
    "rewrite": "packed_rewrite(KEYS[1], slice(ARGV, 2), ARGV[1])",
    "trim": "packed_trim(KEYS[1], tonumber(ARGV[1]))",
    "index": """
        return packed_index(KEYS[1], ARGV[1], 0, redis.call('LLEN', KEYS[1]) - 1)""",
    "merge": """
        local floor, length = ARGV[1], tonumber(ARGV[2])
        local IDS = 3
        local first, second = slice(ARGV, IDS, IDS + length - 1), slice(ARGV, IDS + length)
        return packed_merge(first, second, floor)""",
}
SOURCES = {function: scripts.assembled(text, LIBRARY, {}) for function, text in CALLS.items()}


def id_of(number: int) -> str:
    """Return an id of 19 digits, in the order of the numbers."""
    return str(10**18 + number)


class Packed:
    """The library's functions, on a list of a store."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client

    def call(self, function: str, *arguments: Any) -> Any:
        return self.client.eval(SOURCES[function], 1, LIST, *arguments)

    def set(self, elements: list[str]) -> None:
        self.client.delete(LIST)
        if elements:
            self.client.rpush(LIST, *elements)

    def get(self) -> list[str]:
        elements: Any = self.client.lrange(LIST, 0, -1)
        return [element.decode() for element in elements]

    def insert(self, activity_id: str, cap: int, limit: int) -> tuple[int, int]:
        outcome, cost = self.call("insert", activity_id, cap, limit)
        return outcome, cost


@dataclass
class Model:
    """A packed list written without care for its speed."""

    head: str | None = None
    ids: list[str] = field(default_factory=list)

    def insert(self, activity_id: str, cap: int, limit: int) -> int:
        if self.head is None:
            return COLD
        if activity_id in self.ids:
            return PRESENT
        # The floor itself was trimmed: the list takes no id at or below the floor.
        if activity_id <= self.head:
            return PRESENT if not self.ids and activity_id == self.head else BELOW
        self.ids = sorted([*self.ids, activity_id])
        if len(self.ids) > limit:
            self.trim(cap)
        return ADDED

    def trim(self, cap: int) -> None:
        assert self.head is not None
        if self.head.startswith("!"):
            self.head, self.ids = None, []
        elif len(self.ids) > cap:
            self.head, self.ids = self.ids[-cap - 1], self.ids[-cap:]

    def elements(self) -> list[str]:
        return [] if self.head is None else [self.head, *self.ids]


@pytest.fixture
def packed(store_url: str) -> Iterator[Packed]:
    with redis.Redis.from_url(store_url, protocol=2) as client:
        yield Packed(client)


NUMBERS = st.integers(0, 60)
FLOORS = st.sampled_from(["0", "!nonce"]) | NUMBERS.map(id_of)
CAPS = st.tuples(st.integers(1, 12), st.integers(0, 5)).map(lambda caps: (caps[0], sum(caps)))


def model_of(floor: str, numbers: list[int]) -> Model:
    return Model(floor, sorted({id_of(number) for number in numbers if id_of(number) > floor}))


@pytest.mark.every_store
@QUICK
@given(FLOORS, st.lists(NUMBERS, max_size=30), st.lists(NUMBERS, max_size=30), CAPS)
def test_ids_are_inserted_anywhere(
    packed: Packed, floor: str, start: list[int], added: list[int], caps: tuple[int, int]
) -> None:
    """At the tail, near the tail, deep, twice, at the floor and below the floor; trims between."""
    cap, limit = caps
    model = model_of(floor, start[:limit])
    packed.set(model.elements())
    for number in added:
        outcome, cost = packed.insert(id_of(number), cap, limit)
        assert outcome == model.insert(id_of(number), cap, limit)
        assert 1 <= cost <= 40
        assert packed.get() == model.elements()


@QUICK
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200, unique=True))
def test_any_order_of_inserts_makes_the_same_list(packed: Packed, numbers: list[int]) -> None:
    packed.set(["0"])
    for number in numbers:
        assert packed.insert(id_of(number), 1_000, 1_000)[0] == ADDED
    assert packed.get() == ["0", *sorted(map(id_of, numbers))]
    for number in numbers:
        assert packed.insert(id_of(number), 1_000, 1_000)[0] == PRESENT
    assert packed.get() == ["0", *sorted(map(id_of, numbers))]


@pytest.mark.every_store
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 10, 50])
def test_an_id_is_inserted_at_every_index(packed: Packed, length: int) -> None:
    """Also where the end of the list and its deep part meet."""
    start = [id_of(10 * number) for number in range(1, length + 1)]
    for index in range(length + 1):
        packed.set(["0", *start])
        activity_id = id_of(10 * index + 5)
        assert packed.insert(activity_id, 100, 100)[0] == ADDED
        assert packed.get() == ["0", *start[:index], activity_id, *start[index:]]


def test_costs_rise_with_the_distance_from_the_tail(packed: Packed) -> None:
    start = [id_of(10 * number) for number in range(1, 101)]
    costs = []
    for number in (1_005, 995, 5):
        packed.set(["0", *start])
        costs.append(packed.insert(id_of(number), 1_000, 1_000)[1])
    assert costs == sorted(costs)
    assert costs[0] == 1
    assert len(set(costs)) == 3


@pytest.mark.every_store
def test_a_cold_list_stays_cold(packed: Packed) -> None:
    packed.set([])
    assert packed.insert(id_of(1), 10, 10)[0] == COLD
    assert not packed.client.exists(LIST)


@QUICK
@given(FLOORS, st.lists(NUMBERS, max_size=30), st.integers(1, 30))
def test_a_trim_keeps_the_newest_ids_and_makes_the_next_one_the_floor(
    packed: Packed, floor: str, numbers: list[int], cap: int
) -> None:
    model = model_of(floor, numbers)
    packed.set(model.elements())
    packed.call("trim", cap)
    model.trim(cap)
    assert packed.get() == model.elements()


@pytest.mark.every_store
def test_a_trim_deletes_a_list_that_is_being_built(packed: Packed) -> None:
    packed.set(["!nonce"])
    for number in range(3):
        assert packed.insert(id_of(number), 3, 3)[0] == ADDED
    assert packed.get() == ["!nonce", id_of(0), id_of(1), id_of(2)]
    assert packed.insert(id_of(3), 3, 3)[0] == ADDED
    assert packed.get() == []


@QUICK
@given(st.lists(NUMBERS, min_size=1, max_size=40, unique=True), st.data())
def test_the_index_is_that_of_the_first_id_not_below(
    packed: Packed, numbers: list[int], data: st.DataObject
) -> None:
    ids = sorted(map(id_of, numbers))
    packed.set(["0", *ids])
    wanted = data.draw(st.integers(0, max(numbers)).map(id_of))
    expected = next(index for index, element in enumerate(["0", *ids]) if element >= wanted)
    assert packed.call("index", wanted) == expected


@pytest.mark.every_store
@QUICK
@given(st.lists(NUMBERS, max_size=40), st.lists(NUMBERS, max_size=40), FLOORS)
def test_a_merge_is_the_sorted_union_above_the_floor(
    packed: Packed, numbers: list[int], other_numbers: list[int], floor: str
) -> None:
    first, second = sorted(map(id_of, set(numbers))), sorted(map(id_of, set(other_numbers)))
    merged = packed.call("merge", floor, len(first), *first, *second)
    expected = [activity_id for activity_id in sorted({*first, *second}) if activity_id > floor]
    assert [activity_id.decode() for activity_id in merged] == expected


@pytest.mark.every_store
@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 7_000])
def test_a_rewrite_stores_thousands_of_ids(packed: Packed, count: int) -> None:
    """Thousands of ids are more than Lua's stack holds."""
    packed.set(["!nonce", id_of(1)])
    packed.call("rewrite", "0", *(id_of(number) for number in range(count)))
    assert packed.get() == ["0", *(id_of(number) for number in range(count))]
