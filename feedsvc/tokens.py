"""Page and resume tokens: opaque, versioned, bound to what they were given for, and authenticated.

A token is the base64url of: one byte of version, the payload, twelve bytes of BLAKE2b keyed with
the store's secret over all that the token is bound to (what kind of list it continues, whose, and
for which viewer), the version and the payload. A damaged, foreign or old one fails that check and
can never lead to a wrong page.
"""

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from hmac import compare_digest

from feedsvc.core.edges import EdgeCursor
from feedsvc.core.pages import Cursor
from feedsvc.errors import PageTokenInvalid, ResumeTokenInvalid

_VERSION = b"\x01"
_MAC_BYTES = 12
#: That a token is bound to at the most.
_PARTS = 8
_PAGE = struct.Struct(">?Q")
_PLACE = struct.Struct(">QB")
_LOG = struct.Struct(">QQ")
_LETTER = struct.Struct(">BQQ")


class Tokens:
    """Makes and reads the tokens of one store."""

    def __init__(self, secret: bytes | Callable[[], bytes]) -> None:
        """``secret`` is the store's, or says what it is now: the store's record may be replaced."""
        self._current = secret if callable(secret) else lambda: secret
        self._known: bytes | None = None
        self._keyed: list[blake2b] = []

    def page(self, cursor: Cursor, *bound: str) -> str:
        """A place in a feed or an outbox. ``bound`` says in which, and for whom."""
        return self.pages(*bound)(cursor)

    def pages(self, *bound: str) -> Callable[[Cursor], str]:
        """Makes tokens for several places in the same feed or outbox."""
        state = self._state(bound)
        return lambda cursor: _sealed(_PAGE.pack(cursor.older, cursor.id or 0), state)

    def read_page(self, token: str, *bound: str) -> Cursor:
        """The place that a token stands for; the top if there is none. Raises PageTokenInvalid."""
        if not token:
            return Cursor()
        older, activity_id = _PAGE.unpack(self._open_page(token, bound, _PAGE.size))
        return Cursor(older, activity_id)

    def place(self, place: EdgeCursor, *bound: str) -> str:
        """A place in a list of edges."""
        return self._seal(_PLACE.pack(place.position, place.shard), bound)

    def read_place(self, token: str, *bound: str) -> EdgeCursor | None:
        """The place that a token stands for, None if there is none. Raises PageTokenInvalid."""
        if not token:
            return None
        return EdgeCursor(*_PLACE.unpack(self._open_page(token, bound, _PLACE.size)))

    def letter(self, letter_id: str, *bound: str) -> str:
        """A place in the list of dead letters: after this one."""
        return self._seal(_LETTER.pack(*map(int, letter_id.split("-"))), bound)

    def read_letter(self, token: str, *bound: str) -> str:
        """The letter that a token stands for, empty if there is none. Raises PageTokenInvalid."""
        if not token:
            return ""
        return "-".join(map(str, _LETTER.unpack(self._open_page(token, bound, _LETTER.size))))

    def log(self, place: str, *bound: str) -> str:
        """A place in a live log, as the log names it; empty: there was no log."""
        return self._seal(_packed(place), bound)

    def logs(self, *bound: str) -> Callable[[Sequence[str]], str]:
        """Makes tokens for places in as many logs: one with each message of a stream."""
        state = self._state(bound)
        return lambda places: _sealed(b"".join(map(_packed, places)), state)

    def read_logs(self, token: str, count: int, *bound: str) -> list[str]:
        """The places that a token stands for. Raises ResumeTokenInvalid."""
        payload = self._open(token, bound, count * _LOG.size)
        if payload is None:
            raise ResumeTokenInvalid(
                "resume_token is damaged, or was given for another subject, viewer or service"
            )
        return ["-".join(map(str, one)) for one in _LOG.iter_unpack(payload)]

    def _open_page(self, token: str, bound: tuple[str, ...], size: int) -> bytes:
        payload = self._open(token, bound, size)
        if payload is None:
            raise PageTokenInvalid(
                "page_token is damaged, or was given for another query, viewer or service"
            )
        return payload

    def _seal(self, payload: bytes, bound: tuple[str, ...]) -> str:
        return _sealed(payload, self._state(bound))

    def _open(self, token: str, bound: tuple[str, ...], size: int) -> bytes | None:
        try:
            sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        payload, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        if len(payload) != 1 + size or payload[:1] != _VERSION:
            return None
        # A token has one spelling: not every base64 text of the same bytes is what was given out.
        if (
            not compare_digest(mac, _mac(payload, self._state(bound)))
            or urlsafe_b64encode(sealed).decode().rstrip("=") != token
        ):
            return None
        return payload[1:]

    def _state(self, bound: tuple[str, ...]) -> blake2b:
        """What the payload is hashed into: how many parts, and each with its length."""
        secret = self._current()
        if secret != self._known:
            self._known, key = secret, blake2b(secret, digest_size=32).digest()
            self._keyed = [
                blake2b(bytes([parts]), key=key, digest_size=_MAC_BYTES)
                for parts in range(_PARTS + 1)
            ]
        state = self._keyed[len(bound)].copy()
        for part in bound:
            encoded = part.encode()
            state.update(len(encoded).to_bytes(4) + encoded)
        return state


def _sealed(payload: bytes, state: blake2b) -> str:
    sealed = _VERSION + payload
    return urlsafe_b64encode(sealed + _mac(sealed, state)).rstrip(b"=").decode()


def _mac(sealed: bytes, state: blake2b) -> bytes:
    state = state.copy()
    state.update(sealed)
    return state.digest()


def _packed(place: str) -> bytes:
    number, _, nonce = place.partition("-")
    return _LOG.pack(int(number or 0), int(nonce or 0))
