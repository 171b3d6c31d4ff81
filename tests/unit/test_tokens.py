from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedsvc.core import ids
from feedsvc.core.edges import EdgeCursor
from feedsvc.core.pages import Cursor
from feedsvc.errors import PageTokenInvalid, ResumeTokenInvalid
from feedsvc.tokens import Tokens, _mac

TOKENS = Tokens(b"a secret")
ID = st.integers(0, (1 << 63) - 1)
BOUND = st.lists(st.text(max_size=20), max_size=4).map(tuple)
CURSOR = st.builds(Cursor, older=st.booleans(), id=ID)
PLACE = st.builds(EdgeCursor, position=st.integers(0, 1 << 53), shard=st.integers(0, 255))
NUMBER = st.integers(0, 10**19 - 1)
LETTER = st.builds("{}-{}-{}".format, st.integers(0, 255), NUMBER, NUMBER)
LOG = st.builds("{}-{}".format, st.integers(1, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))


@given(CURSOR, BOUND)
def test_page_token_says_what_it_was_made_of(cursor: Cursor, bound: tuple[str, ...]) -> None:
    assert TOKENS.read_page(TOKENS.seal_page(cursor, *bound), *bound) == cursor


@given(PLACE, BOUND)
def test_place_token_says_what_it_was_made_of(place: EdgeCursor, bound: tuple[str, ...]) -> None:
    assert TOKENS.read_edge_cursor(TOKENS.seal_edge_cursor(place, *bound), *bound) == place


@given(LOG, BOUND)
def test_resume_token_says_what_it_was_made_of(place: str, bound: tuple[str, ...]) -> None:
    assert TOKENS.read_log_positions(TOKENS.seal_log_position(place, *bound), 1, *bound) == [place]


@given(LETTER, BOUND)
def test_letter_token_says_what_it_was_made_of(letter: str, bound: tuple[str, ...]) -> None:
    assert TOKENS.read_dead_letter(TOKENS.seal_dead_letter(letter, *bound), *bound) == letter


def test_no_token_is_the_top_but_no_place_in_a_log() -> None:
    assert TOKENS.read_page("", "feed", "bob", "") == Cursor()
    assert TOKENS.read_edge_cursor("", "followers", "bob", "") is None
    assert TOKENS.read_dead_letter("", "dead-letters") == ""
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read_log_positions("", 1, "log", "bob", "")
    assert TOKENS.read_log_positions(TOKENS.seal_log_position("", "log"), 1, "log") == ["0-0"]


@given(CURSOR, BOUND, BOUND)
def test_page_token_is_bound(cursor: Cursor, own: tuple[str, ...], other: tuple[str, ...]) -> None:
    token = TOKENS.seal_page(cursor, *own)
    if own != other:
        with pytest.raises(PageTokenInvalid):
            TOKENS.read_page(token, *other)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (("feed", "bob", ""), ("feed", "", "bob")),
        (("feed", "bob", "al"), ("feed", "boba", "l")),
        (("feed", "bob"), ("feed", "bob", "")),
        (("feed", "bob\0", ""), ("feed", "bob", "\0")),
        (("feed", "bob", ""), ("outbox", "bob", "")),
        (("feed", "bob", ""), ("feed", "Bob", "")),
        ((), ("",)),
    ],
)
def test_what_it_is_bound_to_is_not_run_together(
    own: tuple[str, ...], other: tuple[str, ...]
) -> None:
    token = TOKENS.seal_page(Cursor(older=True, id=1), *own)
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(token, *other)


@given(CURSOR, st.data())
def test_flipped_bit_is_noticed(cursor: Cursor, data: st.DataObject) -> None:
    token = TOKENS.seal_page(cursor, "feed", "bob", "")
    sealed = bytearray(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    flipped = urlsafe_b64encode(sealed).decode().rstrip("=")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(flipped, "feed", "bob", "")


@given(CURSOR, st.data())
def test_edited_text_is_noticed(cursor: Cursor, data: st.DataObject) -> None:
    """A token has one spelling: no other text is read as it."""
    token = TOKENS.seal_page(cursor, "feed", "bob", "")
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)))
    edited = token[:start] + data.draw(st.text(max_size=3)) + token[end:]
    if edited in {token, ""}:
        return
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(edited, "feed", "bob", "")


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_nonsense_is_noticed(text: str) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(text, "feed")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_edge_cursor(text, "feed")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_dead_letter(text, "feed")
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read_log_positions(text, 1, "feed")


@given(CURSOR, st.binary(max_size=64))
def test_token_of_another_store_is_noticed(cursor: Cursor, secret: bytes) -> None:
    if secret == b"a secret":
        return
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(Tokens(secret).seal_page(cursor, "feed"), "feed")


def test_token_of_another_version_is_noticed() -> None:
    """Even if whoever made it knew the secret."""
    token = TOKENS.seal_page(Cursor(older=True, id=1), "feed")
    sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    other = b"\x02" + sealed[1:-12]
    mac = _mac(other, TOKENS._scope_state(("feed",)))
    resealed = urlsafe_b64encode(other + mac).decode().rstrip("=")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(resealed, "feed")


@given(CURSOR, PLACE, LETTER, LOG)
def test_tokens_are_short_and_fit_into_an_address(
    cursor: Cursor, place: EdgeCursor, letter: str, log: str
) -> None:
    for token in (
        TOKENS.seal_page(cursor, "x"),
        TOKENS.seal_edge_cursor(place, "x"),
        TOKENS.seal_dead_letter(letter, "x"),
        TOKENS.seal_log_position(log, "x"),
    ):
        assert len(token) <= 40
        assert token.replace("-", "").replace("_", "").isalnum()
        assert token.isascii()


def test_token_of_an_id_of_today_keeps_it_whole() -> None:
    """Beyond what a double holds."""
    one = ids.make(1_800_000_000_000, 8_191, 255)
    assert TOKENS.read_page(TOKENS.seal_page(Cursor(older=False, id=one), "x"), "x").id == one
