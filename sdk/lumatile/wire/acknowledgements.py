"""What a service says about the values it was sent: which are durable, which it refuses, and how it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from lumatile.wire.decoding import Refused

HEARTBEAT_SECONDS = 0.5
"""A service says something this often, be it nothing."""

SILENCE_SECONDS = 2.0
"""Who has heard nothing for this long takes the link for dead."""

Range = tuple[bytes, int, int]
"""Producer, first seq, last seq."""


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """One message."""

    durable: tuple[Range, ...] = ()
    """Values that are durable."""
    refused: tuple[Refused, ...] = ()
    failures: int = 0
    """How often writing to the store has failed since the message before; it is tried on."""
    failure: str = ""
    """Why it failed last."""
    ended: str = ""
    """Why the server wants to end the stream; empty: it does not. Nothing more is to be sent then."""

    def encode(self) -> bytes:
        """As it travels: JSON."""
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
        """What `encode` gave. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
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
    """(producer, seq), with neighbours put together."""
    found: list[Range] = []
    for producer, seq in keys:
        if found and found[-1][0] == producer and found[-1][2] == seq - 1:
            found[-1] = producer, found[-1][1], seq
        else:
            found.append((producer, seq, seq))
    return tuple(found)
