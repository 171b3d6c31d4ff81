"""The comparison of recordings: words matter, numbers and times do not."""

import pytest

from tests.first_hour.recordings import difference


@pytest.mark.parametrize(
    ("committed", "made"),
    [
        ("up in 0.4 s\n", "up in 12 s\n"),
        ("server  up, started 2 s ago\n", "server up, started just now\n"),
        (
            "2026-11-22T06:53:07.349Z INFO process: stopping\n",
            "2027-01-01T00:00:00.000Z INFO process: stopping\n",
        ),
        ("setup: downloading grpcio (7.4 MB)\nready\n", "ready\n"),
        ("id 3765080711082005509; delivered\n", "id 12; delivered\n"),
    ],
)
def test_numbers_times_and_downloads_may_differ(committed: str, made: str) -> None:
    assert difference(committed, made) == ""


def test_each_other_word_and_line_must_be_the_same() -> None:
    assert difference("0 queued\n", "0 waiting\n").splitlines()[-2:] == ["-# queued", "+# waiting"]
    assert difference("one\n", "one\ntwo\n").endswith("+two")
