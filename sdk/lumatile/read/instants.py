"""The forms in which a query gives an instant."""

from __future__ import annotations

import datetime as dt
import math
import numbers
from typing import Any

import numpy as np

from lumatile.errors import InvalidTypeError, InvalidValueError, shown

LEAST, GREATEST = -(2**63), 2**63 - 1

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def as_instant(timeline: str, kind: str, value: Any) -> int:
    """Return the 64-bit number of an instant on a timeline of `kind` "sequence" or "time".

    An int is a sequence number or nanoseconds since the epoch, a float seconds since the epoch; datetime.datetime (UTC
    where it has no zone) and numpy.datetime64 are accepted. A value beyond 64 bits is the least or the greatest
    instant. Raises InvalidTypeError for another type, and for anything but an int on a sequence; InvalidValueError for
    NaN.
    """
    if isinstance(value, numbers.Integral):
        nanos = int(value)
    elif kind == "sequence":
        raise InvalidTypeError(f"timeline {timeline!r} is a sequence: its instant must be an int, not {shown(value)}")
    elif isinstance(value, numbers.Real):
        if math.isnan(value):
            raise InvalidValueError(f"timeline {timeline!r}: an instant must be a number, not {shown(value)}")
        nanos = round(float(value) * 1e9) if math.isfinite(value) else int(math.copysign(GREATEST, value))
    elif isinstance(value, dt.datetime):
        exact = getattr(value, "nanosecond", 0)  # pandas.Timestamp has more digits than its base class
        since = (value if value.tzinfo else value.replace(tzinfo=dt.UTC)) - _EPOCH
        nanos = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000 + exact
    elif isinstance(value, np.datetime64) and not np.isnat(value):
        nanos = int(value.astype("datetime64[ns]").astype(np.int64))
    else:
        raise InvalidTypeError(
            f"timeline {timeline!r}: an instant must be an int, a float (seconds) or a datetime, not {shown(value)}"
        )
    return min(max(nanos, LEAST), GREATEST)
