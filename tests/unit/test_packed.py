"""The packed list of lua/lib/packed.lua against what it is meant to be, on a real store."""

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
#: Examples share one store: each begins with lists of its own.
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LIBRARY = "\n".join(scripts.libraries()[name] for name in ("arrays", "packed"))
#: Each calls one function of the library with ARGV, on KEYS[1].
CALLS = {
    "insert": """
        local result, cost = packed_insert(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
        return {result, cost}""",
    "rewrite": "packed_rewrite(KEYS[1], slice(ARGV, 2), ARGV[1])",
    "trim": "packed_trim(KEYS[1], tonumber(ARGV[1]))",
    "index": """
        return packed_index(KEYS[1], ARGV[1], 0, redis.call('LLEN', KEYS[1]) - 1)""",
    "merge": """
        local a, b = {}, {}
        for i = 3, #ARGV do table.insert(i - 2 <= tonumber(ARGV[2]) and a or b, ARGV[i]) end
        return packed_merge(a, b, ARGV[1])""",
}
SOURCES = {function: scripts.assembled(text, LIBRARY, {}) for function, text in CALLS.items()}


def name(number: int) -> str:
    """An id: 19 digits, as all are."""
    return str(10**18 + number)


class Packed:
    """The library, callable."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client

    def call(self, function: str, *arguments: Any) -> Any:
        return self.client.eval(SOURCES[function], 1, LIST, *arguments)

    def set(self, elements: list[str]) -> None:
        self.client.delete(LIST)
        if elements:
            self.client.rpush(LIST, *elements)

    def get(self) -> list[str]:
        found: Any = self.client.lrange(LIST, 0, -1)
        return [one.decode() for one in found]

    def insert(self, one: str, keep: int, most: int) -> tuple[int, int]:
        result, cost = self.call("insert", one, keep, most)
        return result, cost


@dataclass
class Model:
    """A packed list as one would write it without caring for time."""

    head: str | None = None
    ids: list[str] = field(default_factory=list)

    def insert(self, one: str, keep: int, most: int) -> int:
        if self.head is None:
            return COLD
        if one in self.ids:
            return PRESENT
        # The floor itself was let go: nothing at or below it comes in.
        if one <= self.head:
            return PRESENT if not self.ids and one == self.head else BELOW
        self.ids = sorted([*self.ids, one])
        if len(self.ids) > most:
            self.trim(keep)
        return ADDED

    def trim(self, keep: int) -> None:
        assert self.head is not None
        if self.head.startswith("!"):
            self.head, self.ids = None, []
        elif len(self.ids) > keep:
            self.head, self.ids = self.ids[-keep - 1], self.ids[-keep:]

    def elements(self) -> list[str]:
        return [] if self.head is None else [self.head, *self.ids]


@pytest.fixture
def packed(store_url: str) -> Iterator[Packed]:
    with redis.Redis.from_url(store_url, protocol=2) as client:
        yield Packed(client)


NUMBERS = st.integers(0, 60)
FLOORS = st.sampled_from(["0", "!nonce"]) | NUMBERS.map(name)
CAPS = st.tuples(st.integers(1, 12), st.integers(0, 5)).map(lambda caps: (caps[0], sum(caps)))


def model_of(floor: str, numbers: list[int]) -> Model:
    return Model(floor, sorted({name(one) for one in numbers if name(one) > floor}))


@pytest.mark.every_store
@QUICK
@given(FLOORS, st.lists(NUMBERS, max_size=30), st.lists(NUMBERS, max_size=30), CAPS)
def test_inserts_anywhere(
    packed: Packed, floor: str, start: list[int], added: list[int], caps: tuple[int, int]
) -> None:
    """At the tail, near it, deep, twice, at the floor and below it; with trims between."""
    keep, most = caps
    model = model_of(floor, start[:most])
    packed.set(model.elements())
    for number in added:
        result, cost = packed.insert(name(number), keep, most)
        assert result == model.insert(name(number), keep, most)
        assert 1 <= cost <= 40
        assert packed.get() == model.elements()


@QUICK
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200, unique=True))
def test_any_order_of_inserts_makes_the_same_list(packed: Packed, numbers: list[int]) -> None:
    packed.set(["0"])
    for number in numbers:
        assert packed.insert(name(number), 1_000, 1_000)[0] == ADDED
    assert packed.get() == ["0", *sorted(map(name, numbers))]
    for number in numbers:
        assert packed.insert(name(number), 1_000, 1_000)[0] == PRESENT
    assert packed.get() == ["0", *sorted(map(name, numbers))]


@pytest.mark.every_store
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 10, 50])
def test_insert_at_every_place(packed: Packed, length: int) -> None:
    """Also where the near end of the list and its deep part meet."""
    start = [name(10 * number) for number in range(1, length + 1)]
    for place in range(length + 1):
        packed.set(["0", *start])
        one = name(10 * place + 5)
        assert packed.insert(one, 100, 100)[0] == ADDED
        assert packed.get() == ["0", *start[:place], one, *start[place:]]


def test_costs_rise_with_the_distance_from_the_tail(packed: Packed) -> None:
    start = [name(10 * number) for number in range(1, 101)]
    costs = []
    for number in (1_005, 995, 5):
        packed.set(["0", *start])
        costs.append(packed.insert(name(number), 1_000, 1_000)[1])
    assert costs == sorted(costs)
    assert costs[0] == 1
    assert len(set(costs)) == 3


@pytest.mark.every_store
def test_cold_list_stays_cold(packed: Packed) -> None:
    packed.set([])
    assert packed.insert(name(1), 10, 10)[0] == COLD
    assert not packed.client.exists(LIST)


@QUICK
@given(FLOORS, st.lists(NUMBERS, max_size=30), st.integers(1, 30))
def test_trim_keeps_the_newest_and_makes_the_next_the_floor(
    packed: Packed, floor: str, numbers: list[int], keep: int
) -> None:
    model = model_of(floor, numbers)
    packed.set(model.elements())
    packed.call("trim", keep)
    model.trim(keep)
    assert packed.get() == model.elements()


@pytest.mark.every_store
def test_list_that_is_being_built_is_given_up_rather_than_lose_its_marker(packed: Packed) -> None:
    packed.set(["!nonce"])
    for number in range(3):
        assert packed.insert(name(number), 3, 3)[0] == ADDED
    assert packed.get() == ["!nonce", name(0), name(1), name(2)]
    assert packed.insert(name(3), 3, 3)[0] == ADDED
    assert packed.get() == []


@QUICK
@given(st.lists(NUMBERS, min_size=1, max_size=40, unique=True), st.data())
def test_place_is_that_of_the_first_not_below(
    packed: Packed, numbers: list[int], data: st.DataObject
) -> None:
    ids = sorted(map(name, numbers))
    packed.set(["0", *ids])
    wanted = data.draw(st.integers(0, max(numbers)).map(name))
    expected = next(place for place, one in enumerate(["0", *ids]) if one >= wanted)
    assert packed.call("index", wanted) == expected


@pytest.mark.every_store
@QUICK
@given(st.lists(NUMBERS, max_size=40), st.lists(NUMBERS, max_size=40), FLOORS)
def test_merge_is_the_sorted_union_above_the_floor(
    packed: Packed, one: list[int], other: list[int], floor: str
) -> None:
    first, second = sorted(map(name, set(one))), sorted(map(name, set(other)))
    found = packed.call("merge", floor, len(first), *first, *second)
    expected = sorted({*first, *second})
    assert [id_.decode() for id_ in found] == [id_ for id_ in expected if id_ > floor]


@pytest.mark.every_store
@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 7_000])
def test_rewrite_stores_thousands_of_ids(packed: Packed, count: int) -> None:
    """More than Lua's stack holds."""
    packed.set(["!nonce", name(1)])
    packed.call("rewrite", "0", *(name(number) for number in range(count)))
    assert packed.get() == ["0", *(name(number) for number in range(count))]
