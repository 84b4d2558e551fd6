"""The names of the faults that a sink and a server count, for metrics and for the jobs that log."""

from __future__ import annotations

from typing import Literal

ErrorReason = Literal[
    "store_write",
    "store_unavailable",
    "stream_refused",
    "stream_busy",
    "stream_unreadable",
    "value_unconverted",
    "internal",
]
"""A kind of fault.

store_write: an attempt to write a segment failed; it is tried again. Four reasons name streams that ended:
store_unavailable, because the store cannot be written; stream_refused, because they break the protocol; stream_busy,
for want of room; and stream_unreadable. value_unconverted: a value is stored as an error row, with what was logged.
internal: a fault of this package.
"""
