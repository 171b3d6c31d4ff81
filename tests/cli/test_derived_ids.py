from feedsvc.cli.derived_ids import DerivedIds


def of(rows: list[bytes]) -> list[str]:
    derived = DerivedIds()
    return [derived.next(row) for row in rows]


def test_a_file_has_the_same_ids_every_time() -> None:
    rows = [b"%d" % number for number in range(1000)] * 2
    assert of(rows) == of(rows)


def test_rows_that_differ_differ() -> None:
    ids = of([b"1 2 3 RT", b"1 2 3 RE", b"1 2 4 RT", b"1 22 3 RT"])
    assert len(set(ids)) == len(ids)


def test_identical_rows_of_a_file_are_counted() -> None:
    first, second, third = of([b"row", b"row", b"row"])
    assert (second, third) == (f"{first}-1", f"{first}-2")


def test_what_stands_between_or_after_changes_nothing() -> None:
    assert of([b"a", b"b", b"a", b"c"])[2] == of([b"a", b"a"])[1]


def test_an_id_fits_the_contract() -> None:
    assert len(of([b"x" * 100_000])[0]) == 32


def test_many_rows_differ_where_the_table_is_wrong() -> None:
    derived = DerivedIds()
    derived._seen = bytearray(b"\xff") * len(derived._seen)
    ids = [derived.next(b"%d" % number) for number in range(1000)]
    assert len(set(ids)) == 1000
