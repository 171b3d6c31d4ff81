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
SCOPE = st.lists(st.text(max_size=20), max_size=4).map(tuple)
CURSOR = st.builds(Cursor, older=st.booleans(), id=ID)
EDGE_CURSOR = st.builds(EdgeCursor, position=st.integers(0, 1 << 53), shard=st.integers(0, 255))
NUMBER = st.integers(0, 10**19 - 1)
LETTER_ID = st.builds("{}-{}-{}".format, st.integers(0, 255), NUMBER, NUMBER)
LOG_POSITION = st.builds(
    "{}-{}".format, st.integers(1, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)
)


@given(CURSOR, SCOPE)
def test_page_token_gives_back_its_cursor(cursor: Cursor, scope: tuple[str, ...]) -> None:
    assert TOKENS.read_page(TOKENS.seal_page(cursor, *scope), *scope) == cursor


@given(EDGE_CURSOR, SCOPE)
def test_page_token_of_edges_gives_back_its_cursor(
    cursor: EdgeCursor, scope: tuple[str, ...]
) -> None:
    assert TOKENS.read_edge_cursor(TOKENS.seal_edge_cursor(cursor, *scope), *scope) == cursor


@given(LOG_POSITION, SCOPE)
def test_resume_token_gives_back_its_position(log_position: str, scope: tuple[str, ...]) -> None:
    token = TOKENS.seal_log_position(log_position, *scope)
    assert TOKENS.read_log_positions(token, 1, *scope) == [log_position]


@given(LETTER_ID, SCOPE)
def test_page_token_of_dead_letters_gives_back_its_letter_id(
    letter_id: str, scope: tuple[str, ...]
) -> None:
    assert TOKENS.read_dead_letter(TOKENS.seal_dead_letter(letter_id, *scope), *scope) == letter_id


def test_empty_token_is_the_first_page_but_no_position_in_a_log() -> None:
    assert TOKENS.read_page("", "feed", "bob", "") == Cursor()
    assert TOKENS.read_edge_cursor("", "followers", "bob", "") is None
    assert TOKENS.read_dead_letter("", "dead-letters") == ""
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read_log_positions("", 1, "log", "bob", "")
    token_without_log = TOKENS.seal_log_position("", "log")
    assert TOKENS.read_log_positions(token_without_log, 1, "log") == ["0-0"]


@given(CURSOR, SCOPE, SCOPE)
def test_page_token_of_another_scope_is_refused(
    cursor: Cursor, own: tuple[str, ...], other: tuple[str, ...]
) -> None:
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
def test_parts_of_a_scope_are_not_run_together(
    own: tuple[str, ...], other: tuple[str, ...]
) -> None:
    token = TOKENS.seal_page(Cursor(older=True, id=1), *own)
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(token, *other)


@given(CURSOR, st.data())
def test_token_with_a_flipped_bit_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    token = TOKENS.seal_page(cursor, "feed", "bob", "")
    sealed = bytearray(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    flipped = urlsafe_b64encode(sealed).decode().rstrip("=")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(flipped, "feed", "bob", "")


@given(CURSOR, st.data())
def test_edited_token_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    """A token has one spelling: no other text stands for the same token."""
    token = TOKENS.seal_page(cursor, "feed", "bob", "")
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)))
    edited = token[:start] + data.draw(st.text(max_size=3)) + token[end:]
    if edited in {token, ""}:
        return
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(edited, "feed", "bob", "")


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(text, "feed")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_edge_cursor(text, "feed")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_dead_letter(text, "feed")
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read_log_positions(text, 1, "feed")


@given(CURSOR, st.binary(max_size=64))
def test_token_of_another_store_is_refused(cursor: Cursor, secret: bytes) -> None:
    if secret == b"a secret":
        return
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(Tokens(secret).seal_page(cursor, "feed"), "feed")


def test_token_of_another_version_is_refused() -> None:
    """Even if the service that made the token has the same secret."""
    token = TOKENS.seal_page(Cursor(older=True, id=1), "feed")
    sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    other_version = b"\x02" + sealed[1:-12]
    mac = _mac(other_version, TOKENS._scope_state(("feed",)))
    resealed = urlsafe_b64encode(other_version + mac).decode().rstrip("=")
    with pytest.raises(PageTokenInvalid):
        TOKENS.read_page(resealed, "feed")


@given(CURSOR, EDGE_CURSOR, LETTER_ID, LOG_POSITION)
def test_tokens_are_short_and_may_stand_in_a_url(
    cursor: Cursor, edge_cursor: EdgeCursor, letter_id: str, log_position: str
) -> None:
    for token in (
        TOKENS.seal_page(cursor, "x"),
        TOKENS.seal_edge_cursor(edge_cursor, "x"),
        TOKENS.seal_dead_letter(letter_id, "x"),
        TOKENS.seal_log_position(log_position, "x"),
    ):
        assert len(token) <= 40
        assert token.replace("-", "").replace("_", "").isalnum()
        assert token.isascii()


def test_page_token_keeps_all_digits_of_an_id() -> None:
    """An id of today has more digits than a double holds."""
    activity_id = ids.make(1_800_000_000_000, 8_191, 255)
    token = TOKENS.seal_page(Cursor(older=False, id=activity_id), "x")
    assert TOKENS.read_page(token, "x").id == activity_id
