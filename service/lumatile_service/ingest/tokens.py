"""Bearer tokens: permission to write values, and to read the status of a service.

A token file has one line for each token: the token, what it may do (`write`, `read`, or both with a comma), and, if it
expires, when (ISO 8601 with a zone):

    # two at a time, so that clients can change over
    wJ8...  write,read
    Zk2...  write       2027-01-31T00:00:00Z

The file is read again when it changes, so tokens are added and removed without a restart; a stream ends with its token.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import flight

from lumatile.errors import InvalidValueError

log = logging.getLogger(__name__)

LEAST_CHARACTERS = 16
"""The shortest token: shorter ones can be guessed."""

CHECK_SECONDS = 1.0
"""A stream that receives values ends at most this long after its token."""

SCOPES = ("write", "read")

NEEDED = {
    flight.FlightMethod.DO_PUT: ("write",),
    flight.FlightMethod.DO_EXCHANGE: ("write",),
    flight.FlightMethod.GET_FLIGHT_INFO: ("write", "read"),
}
"""The scopes of each call, one of which it needs; all other calls need `read`."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of the file."""

    digest: bytes
    """SHA-256 of the token: comparing digests takes the same time whatever is sent."""
    scopes: frozenset[str]
    expires: datetime | None = None


class TokenFile:
    """The tokens that a file has now. May be used from several threads."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises InvalidValueError if it cannot be read, is open to others, or breaks a rule."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: Sequence[Token] = ()
        self._refresh()

    def scopes(self, token: str) -> frozenset[str]:
        """Return the scopes of a token: none if it is unknown or expired. Compares with all, in constant time."""
        with self._lock:
            try:
                self._refresh()
            except InvalidValueError as e:
                log.error("the tokens remain as they were: %s", e)  # noqa: TRY400 - the message says it all
            tokens = self._tokens
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        now = datetime.now(UTC)
        scopes: frozenset[str] = frozenset()
        for known in tokens:
            if hmac.compare_digest(known.digest, digest) and (known.expires is None or now < known.expires):
                scopes |= known.scopes
        return scopes

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            text = self._path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise InvalidValueError(f"the token file {self._path} must be a file that can be read: {e}") from e
        if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
            raise InvalidValueError(f"the token file {self._path} must not be open to others: chmod 600 it")
        tokens = [_token(line, number) for number, line in enumerate(text.splitlines(), 1) if _says_something(line)]
        if not tokens:
            raise InvalidValueError(f"the token file {self._path} must contain a token")
        self._tokens, self._stamp = tokens, stamp


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def _token(line: str, number: int) -> Token:
    rule = f"line {number} of a token file must be TOKEN {','.join(SCOPES)} [UNTIL]"  # without the token
    fields = line.split()
    if len(fields) not in (2, 3):
        raise InvalidValueError(f"{rule}, and it has {len(fields)} words")
    token, scopes = fields[0], frozenset(fields[1].split(","))
    if len(token) < LEAST_CHARACTERS:
        raise InvalidValueError(f"{rule}, with a token of {LEAST_CHARACTERS} characters or more, not {len(token)}")
    if not scopes <= set(SCOPES):
        raise InvalidValueError(f"{rule}, not {fields[1]!r:.80}")
    try:
        expires = datetime.fromisoformat(fields[2]) if len(fields) == 3 else None
    except ValueError as e:
        raise InvalidValueError(f"{rule}, with a time like 2027-01-31T00:00:00Z: {e}") from e
    if expires is not None and expires.tzinfo is None:
        raise InvalidValueError(f"{rule}, with a time that has a zone, not {fields[2]!r}")
    return Token(digest=hashlib.sha256(token.encode()).digest(), scopes=scopes, expires=expires)


class CallToken(flight.ServerMiddleware):  # type: ignore[misc]
    """The token of a call, which may take so long that the token expires in the meantime."""

    def __init__(self, tokens: TokenFile, token: str, needed: Sequence[str]) -> None:
        """Keep the token; `needed`: the scopes, one of which the call needs."""
        super().__init__()
        self._tokens = tokens
        self._token = token
        self._needed = needed
        self._again = -math.inf
        """The time of the next look at the file, on the monotonic clock."""

    def check(self) -> None:
        """Check the token, at most every CHECK_SECONDS.

        Raises FlightUnauthenticatedError without a valid token, FlightUnauthorizedError without its scope.
        """
        now = time.monotonic()
        if now < self._again:
            return
        scopes = self._tokens.scopes(self._token)
        if not scopes:
            raise flight.FlightUnauthenticatedError("the bearer token is not valid here, or not any more")
        if not scopes & set(self._needed):
            raise flight.FlightUnauthorizedError(
                f"the bearer token may not do this: it needs {' or '.join(self._needed)}"
            )
        self._again = now + CHECK_SECONDS


class TokenCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Admits a call whose bearer token has the scope that the call needs."""

    def __init__(self, tokens: TokenFile) -> None:
        """Admit the calls with one of `tokens`."""
        super().__init__()
        self._tokens = tokens

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, Sequence[Any]]) -> CallToken:
        """Return the token of a call.

        Raises FlightUnauthenticatedError without a valid token, FlightUnauthorizedError without its scope.
        """
        values = [value for name, entries in headers.items() if name.lower() == "authorization" for value in entries]
        sent = values[0].decode(errors="replace") if values and isinstance(values[0], bytes) else "".join(values[:1])
        kind, _, token = sent.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise flight.FlightUnauthenticatedError("this service needs a bearer token, and none was sent")
        call = CallToken(self._tokens, token.strip(), NEEDED.get(info.method, ("read",)))
        call.check()
        return call


def token_middleware(tokens: TokenFile | None) -> dict[str, TokenCheck]:
    """Return the `middleware` of a FlightServerBase that admits calls with one of `tokens`; None: all calls."""
    return {} if tokens is None else {"tokens": TokenCheck(tokens)}
