"""Page and resume tokens: opaque, versioned, bound to what they were given for, and authenticated.

A token is the base64url of: one byte of version, the payload, twelve bytes of BLAKE2b keyed with
the store's secret over the version, the payload and all that the token is bound to: what kind of
list it continues, whose, and for which viewer. A damaged, foreign or old one fails that check and
can never lead to a wrong page.
"""

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest

from feedsvc.core.edges import Place
from feedsvc.core.feed import Cursor
from feedsvc.errors import PageTokenInvalid, ResumeTokenInvalid

_VERSION = b"\x01"
_MAC_BYTES = 12
_PAGE = struct.Struct(">?Q")
_PLACE = struct.Struct(">QB")
_LOG = struct.Struct(">QQ")
_LETTER = struct.Struct(">BQQ")


class Tokens:
    """Makes and reads the tokens of one store."""

    def __init__(self, secret: bytes) -> None:
        self._secret = blake2b(secret, digest_size=32).digest()

    def page(self, cursor: Cursor, *bound: str) -> str:
        """A place in a feed or an outbox. ``bound`` says in which, and for whom."""
        return self._seal(_PAGE.pack(cursor.older, cursor.id or 0), bound)

    def read_page(self, token: str, *bound: str) -> Cursor:
        """The place that a token stands for; the top if there is none. Raises PageTokenInvalid."""
        if not token:
            return Cursor()
        older, activity_id = _PAGE.unpack(self._open_page(token, bound, _PAGE.size))
        return Cursor(older, activity_id)

    def place(self, place: Place, *bound: str) -> str:
        """A place in a list of edges."""
        return self._seal(_PLACE.pack(place.position, place.shard), bound)

    def read_place(self, token: str, *bound: str) -> Place | None:
        """The place that a token stands for, None if there is none. Raises PageTokenInvalid."""
        if not token:
            return None
        return Place(*_PLACE.unpack(self._open_page(token, bound, _PLACE.size)))

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

    def logs(self, places: Sequence[str], *bound: str) -> str:
        """Places in as many logs."""
        return self._seal(b"".join(map(_packed, places)), bound)

    def read_logs(self, token: str, count: int, *bound: str) -> list[str]:
        """The places that a token stands for. Raises ResumeTokenInvalid."""
        payload = self._resumed(token, count * _LOG.size, bound)
        return ["-".join(map(str, one)) for one in _LOG.iter_unpack(payload)]

    def read_log(self, token: str, *bound: str) -> str:
        """The place that a token stands for. Raises ResumeTokenInvalid."""
        (place,) = self.read_logs(token, 1, *bound)
        return place

    def _resumed(self, token: str, size: int, bound: tuple[str, ...]) -> bytes:
        payload = self._open(token, bound, size)
        if payload is None:
            raise ResumeTokenInvalid(
                "resume_token is damaged, or was given for another subject, viewer or service"
            )
        return payload

    def _open_page(self, token: str, bound: tuple[str, ...], size: int) -> bytes:
        payload = self._open(token, bound, size)
        if payload is None:
            raise PageTokenInvalid(
                "page_token is damaged, or was given for another query, viewer or service"
            )
        return payload

    def _seal(self, payload: bytes, bound: tuple[str, ...]) -> str:
        sealed = _VERSION + payload
        return urlsafe_b64encode(sealed + self._mac(sealed, bound)).rstrip(b"=").decode()

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
            not compare_digest(mac, self._mac(payload, bound))
            or urlsafe_b64encode(sealed).decode().rstrip("=") != token
        ):
            return None
        return payload[1:]

    def _mac(self, sealed: bytes, bound: tuple[str, ...]) -> bytes:
        state = blake2b(sealed, key=self._secret, digest_size=_MAC_BYTES)
        for part in bound:
            encoded = part.encode()
            state.update(len(encoded).to_bytes(4) + encoded)
        return state.digest()


def _packed(place: str) -> bytes:
    number, _, nonce = place.partition("-")
    return _LOG.pack(int(number or 0), int(nonce or 0))
