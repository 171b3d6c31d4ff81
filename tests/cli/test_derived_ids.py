"""External ids that the import derives from rows."""

from feedsvc.cli.importing.derived_ids import DerivedIds


def ids_of(rows: list[bytes]) -> list[str]:
    derived = DerivedIds()
    return [derived.next(row) for row in rows]


def test_a_file_has_the_same_ids_at_every_import() -> None:
    rows = [b"%d" % number for number in range(1000)] * 2
    assert ids_of(rows) == ids_of(rows)


def test_different_rows_have_different_ids() -> None:
    ids = ids_of([b"1 2 3 RT", b"1 2 3 RE", b"1 2 4 RT", b"1 22 3 RT"])
    assert len(set(ids)) == len(ids)


def test_the_ids_of_identical_rows_are_numbered() -> None:
    first, second, third = ids_of([b"row", b"row", b"row"])
    assert (second, third) == (f"{first}-1", f"{first}-2")


def test_other_rows_do_not_change_an_id() -> None:
    assert ids_of([b"a", b"b", b"a", b"c"])[2] == ids_of([b"a", b"a"])[1]


def test_an_id_has_32_characters() -> None:
    assert len(ids_of([b"x" * 100_000])[0]) == 32


def test_different_rows_have_different_ids_when_the_table_is_wrong() -> None:
    derived = DerivedIds()
    derived._seen = bytearray(b"\xff") * len(derived._seen)
    ids = [derived.next(b"%d" % number) for number in range(1000)]
    assert len(set(ids)) == 1000
