"""What a service says about the values it was sent: which are durable, and which it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from lumatile.wire import Refused

HEARTBEAT_SECONDS = 0.5
"""A service says something this often, be it nothing."""

SILENCE_SECONDS = 2.0
"""Who has heard nothing for this long takes the link for dead."""


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """One message."""

    durable: tuple[tuple[bytes, int], ...] = ()
    """(producer, seq) of values that are durable."""
    refused: tuple[Refused, ...] = ()

    def encode(self) -> bytes:
        """As it travels: JSON, neighbouring numbers as ranges."""
        durable = [[producer.hex(), first, last] for producer, first, last in _ranges(self.durable)]
        refused = [[r.producer.hex(), r.seq, r.reason] for r in self.refused]
        return json.dumps({"durable": durable, "refused": refused}, separators=(",", ":")).encode()

    @staticmethod
    def decode(message: bytes) -> Acknowledgement:
        """What `encode` gave. Raises ValueError."""
        entries = json.loads(message)
        return Acknowledgement(
            durable=tuple(
                (bytes.fromhex(producer), seq)
                for producer, first, last in entries["durable"]
                for seq in range(first, last + 1)
            ),
            refused=tuple(
                Refused(producer=bytes.fromhex(producer), seq=seq, reason=reason)
                for producer, seq, reason in entries["refused"]
            ),
        )


def _ranges(keys: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, int, int]]:
    ranges: list[tuple[bytes, int, int]] = []
    for producer, seq in keys:
        if ranges and ranges[-1][0] == producer and ranges[-1][2] == seq - 1:
            ranges[-1] = producer, ranges[-1][1], seq
        else:
            ranges.append((producer, seq, seq))
    return ranges
