import pytest

from feedsvc.core import keys
from feedsvc.core.sources import Source


@pytest.mark.parametrize(
    ("mode", "pushed", "pulled", "becomes_pulled"),
    [
        ("", True, False, False),
        (f"{keys.MODE_PUSH}1", True, False, False),
        (f"{keys.MODE_TO_PULL}2", False, False, True),
        (f"{keys.MODE_PULL}2", False, True, True),
        (f"{keys.MODE_TO_PUSH}3", False, False, False),
    ],
)
def test_the_mode_says_how_followers_get_activities(
    mode: str, *, pushed: bool, pulled: bool, becomes_pulled: bool
) -> None:
    source = Source("alice", [], mode)
    assert source.pushed == pushed
    assert source.pulled == pulled
    assert source.becomes_pulled == becomes_pulled
    assert source.epoch == int(mode[1:] or 0)
