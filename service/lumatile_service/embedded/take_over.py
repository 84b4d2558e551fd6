"""Storing what a process that has ended left in its spool."""

from __future__ import annotations

from dataclasses import replace

from lumatile.spool.spool import Spool
from lumatile.storage.open_storage import open_storage
from lumatile.wire.decoding import Decoder, Limits
from lumatile.wire.protocol import Refused
from lumatile_service.embedded.known_keys import KnownKeys
from lumatile_service.embedded.sink import open_embedded


def take_over(spool: Spool, url: str, timeout: float | None = None) -> int:
    """Store the values of a spool that the store at `url` does not have, and empty it; return how many were refused.

    `timeout`: seconds that the flush takes at most; None: unlimited.
    Raises SinkError where the store cannot be written, FlushError where values are not durable in time, OSError; the
    spool is as it was then.
    """
    settings = replace(spool.settings, queue_policy="block", max_block=None)
    sink = open_embedded(url, settings)
    decoder, units, refused = Decoder(Limits()), [], 0
    try:
        keys = KnownKeys(open_storage(url).recording(settings.recording_id))
        keys.refresh()
        while (unit := spool.next()) is not None:
            units.append(unit.keys)
            for batch in unit.batches:
                for value in decoder.decode(batch):
                    if isinstance(value, Refused):
                        refused += 1
                    elif not keys.holds(value.producer, value.seq):
                        sink.put(value)
    finally:
        sink.close(timeout)
    for producer, seq in [key for each in units for key in each]:
        spool.acknowledge(producer, seq)
    spool.tidy()
    return refused
