"""The messages of a service about the values it was sent: which are durable, which it refuses, and how it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from lumatile.wire.protocol import Refused

HEARTBEAT_SECONDS = 0.5
"""A service sends a message at least this often, if only an empty one."""

SILENCE_SECONDS = 2.0
"""A process that has received no message for this long considers the link dead."""

Range = tuple[bytes, int, int]
"""The producer, the first and the last seq of consecutive values."""


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """One message of a service."""

    durable: tuple[Range, ...] = ()
    """The values that are durable."""
    refused: tuple[Refused, ...] = ()
    """The values that are refused."""
    failures: int = 0
    """How often writing to the store has failed since the previous message; the service goes on trying."""
    failure: str = ""
    """Why the last write failed."""
    ended: str = ""
    """Why the server ends the stream, so that nothing more is to be sent; empty: it does not."""

    def encode(self) -> bytes:
        """Return the message as JSON."""
        message = {
            "durable": [[producer.hex(), first, last] for producer, first, last in self.durable],
            "refused": [[r.producer.hex(), r.seq, r.reason] for r in self.refused],
            "failures": self.failures,
            "failure": self.failure,
            "ended": self.ended,
        }
        return json.dumps({name: entry for name, entry in message.items() if entry}, separators=(",", ":")).encode()

    @staticmethod
    def decode(message: bytes) -> Acknowledgement:
        """Return the message that `encode` gave.

        Raises ValueError, TypeError, KeyError or AttributeError for other bytes.
        """
        entries = json.loads(message)
        return Acknowledgement(
            durable=tuple(
                (bytes.fromhex(producer), int(first), int(last)) for producer, first, last in entries.get("durable", ())
            ),
            refused=tuple(
                Refused(producer=bytes.fromhex(producer), seq=int(seq), reason=str(reason))
                for producer, seq, reason in entries.get("refused", ())
            ),
            failures=int(entries.get("failures", 0)),
            failure=str(entries.get("failure", "")),
            ended=str(entries.get("ended", "")),
        )


def ranges(keys: Iterable[tuple[bytes, int]]) -> tuple[Range, ...]:
    """Return the ranges of (producer, seq) keys: consecutive ones are joined."""
    found: list[Range] = []
    for producer, seq in keys:
        if found and found[-1][0] == producer and found[-1][2] == seq - 1:
            found[-1] = producer, found[-1][1], seq
        else:
            found.append((producer, seq, seq))
    return tuple(found)
