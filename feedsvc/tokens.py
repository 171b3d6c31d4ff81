"""Page tokens and resume tokens: opaque, versioned, authenticated, and bound to a scope.

A token is the base64url of one byte of version, a payload, and twelve bytes of BLAKE2b. The BLAKE2b
is keyed with the store's secret, and covers the scope, the version and the payload. The scope names
the list that the token continues: the kind of list, whose list, and for which viewer. A damaged,
foreign or old token fails this check, and can never lead to a wrong page.
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
#: Parts of a scope at most.
_SCOPE_PARTS = 8
#: The payload of a page of a feed or outbox: whether it goes to older ids, and the id.
_PAGE = struct.Struct(">?Q")
#: The payload of a page of edges: position, shard.
_EDGE = struct.Struct(">QB")
#: The payload of a position in a live log: its number, its nonce.
_LOG = struct.Struct(">QQ")
#: The payload of a page of dead letters: the three numbers of a letter's id.
_DEAD_LETTER = struct.Struct(">BQQ")


class Tokens:
    """The tokens of one store."""

    def __init__(self, secret: bytes | Callable[[], bytes]) -> None:
        """Make tokens with the store's secret.

        A callable returns the secret of now: the store's record, and the secret with it, may be
        replaced while the server runs.
        """
        self._read_secret = secret if callable(secret) else lambda: secret
        self._secret: bytes | None = None
        self._keyed_states: list[blake2b] = []
        """The keyed hash of no payload, by the number of parts of the scope."""

    def seal_page(self, cursor: Cursor, *scope: str) -> str:
        """Return the page token of a cursor in a feed or an outbox."""
        return self.page_sealer(*scope)(cursor)

    def page_sealer(self, *scope: str) -> Callable[[Cursor], str]:
        """Return the function that makes page tokens of cursors in the same feed or outbox."""
        state = self._scope_state(scope)
        return lambda cursor: _sealed(_PAGE.pack(cursor.older, cursor.id or 0), state)

    def read_page(self, token: str, *scope: str) -> Cursor:
        """Return the cursor of a page token; the top for an empty one. Raise PageTokenInvalid."""
        if not token:
            return Cursor()
        older, activity_id = _PAGE.unpack(self._open_page(token, scope, _PAGE.size))
        return Cursor(older, activity_id)

    def seal_edge_cursor(self, cursor: EdgeCursor, *scope: str) -> str:
        """Return the page token of a cursor in a list of edges."""
        return self._seal(_EDGE.pack(cursor.position, cursor.shard), scope)

    def read_edge_cursor(self, token: str, *scope: str) -> EdgeCursor | None:
        """Return the edge cursor of a page token; None for an empty one.

        Raise PageTokenInvalid.
        """
        if not token:
            return None
        return EdgeCursor(*_EDGE.unpack(self._open_page(token, scope, _EDGE.size)))

    def seal_dead_letter(self, letter_id: str, *scope: str) -> str:
        """Return the page token of the dead letters after ``letter_id``."""
        return self._seal(_DEAD_LETTER.pack(*map(int, letter_id.split("-"))), scope)

    def read_dead_letter(self, token: str, *scope: str) -> str:
        """Return the dead letter's id of a page token; empty for an empty one.

        Raise PageTokenInvalid.
        """
        if not token:
            return ""
        payload = self._open_page(token, scope, _DEAD_LETTER.size)
        return "-".join(map(str, _DEAD_LETTER.unpack(payload)))

    def seal_log_position(self, log_position: str, *scope: str) -> str:
        """Return the resume token of a position in a live log; empty if the log did not exist."""
        return self._seal(_packed(log_position), scope)

    def log_sealer(self, *scope: str) -> Callable[[Sequence[str]], str]:
        """Return the function that makes resume tokens of positions in one or several logs.

        A stream makes a token with each message.
        """
        state = self._scope_state(scope)
        return lambda log_positions: _sealed(b"".join(map(_packed, log_positions)), state)

    def read_log_positions(self, token: str, count: int, *scope: str) -> list[str]:
        """Return the positions of a resume token in ``count`` logs. Raise ResumeTokenInvalid."""
        payload = self._open(token, scope, count * _LOG.size)
        if payload is None:
            raise ResumeTokenInvalid(
                "resume_token is damaged, or was given for another feed or outbox, viewer, view or "
                "service: subscribe without a token"
            )
        return ["-".join(map(str, numbers)) for numbers in _LOG.iter_unpack(payload)]

    def _open_page(self, token: str, scope: tuple[str, ...], size: int) -> bytes:
        payload = self._open(token, scope, size)
        if payload is None:
            raise PageTokenInvalid(
                "page_token is damaged, or was given for another list, viewer, view or service: "
                "start at the first page"
            )
        return payload

    def _seal(self, payload: bytes, scope: tuple[str, ...]) -> str:
        return _sealed(payload, self._scope_state(scope))

    def _open(self, token: str, scope: tuple[str, ...], size: int) -> bytes | None:
        """Return the payload of a token, of ``size`` bytes; None if the token is not genuine."""
        try:
            sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        payload, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        if len(payload) != 1 + size or payload[:1] != _VERSION:
            return None
        # A token has one spelling, but several base64 texts decode to the same bytes. Only the text
        # that the service gave out is the token.
        if (
            not compare_digest(mac, _mac(payload, self._scope_state(scope)))
            or urlsafe_b64encode(sealed).decode().rstrip("=") != token
        ):
            return None
        return payload[1:]

    def _scope_state(self, scope: tuple[str, ...]) -> blake2b:
        """Return the hash that a payload is added to: over the number of parts and each part.

        Each part has its length before it, so that no two scopes give the same bytes.
        """
        secret = self._read_secret()
        if secret != self._secret:
            self._secret, key = secret, blake2b(secret, digest_size=32).digest()
            self._keyed_states = [
                blake2b(bytes([parts]), key=key, digest_size=_MAC_BYTES)
                for parts in range(_SCOPE_PARTS + 1)
            ]
        state = self._keyed_states[len(scope)].copy()
        for part in scope:
            encoded = part.encode()
            state.update(len(encoded).to_bytes(4) + encoded)
        return state


def _sealed(payload: bytes, state: blake2b) -> str:
    versioned = _VERSION + payload
    return urlsafe_b64encode(versioned + _mac(versioned, state)).rstrip(b"=").decode()


def _mac(versioned: bytes, state: blake2b) -> bytes:
    state = state.copy()
    state.update(versioned)
    return state.digest()


def _packed(log_position: str) -> bytes:
    number, _, nonce = log_position.partition("-")
    return _LOG.pack(int(number or 0), int(nonce or 0))
