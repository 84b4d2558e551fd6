"""The forms in which a query gives an instant."""

from __future__ import annotations

import math
import numbers
from typing import Any

from lumatile.datetimes import is_datetime, nanoseconds_of
from lumatile.errors import InvalidTypeError, InvalidValueError, shown

LEAST, GREATEST = -(2**63), 2**63 - 1


def as_instant(timeline: str, kind: str, value: Any) -> int:
    """Return the 64-bit number of an instant on a timeline of `kind` "sequence" or "time".

    An int is a sequence number or nanoseconds since the epoch, a float seconds since the epoch; an instant of datetime
    (UTC where it has no zone), numpy or pandas is accepted, and so is a duration, as the time since the epoch. A value
    beyond 64 bits is the least or the greatest instant. Raises InvalidTypeError for another type, and for anything but
    an int on a sequence; InvalidValueError for NaN, NaT and a duration without a fixed length.
    """
    if kind != "sequence" and is_datetime(value):
        try:
            nanos = nanoseconds_of(value)
        except ValueError as e:
            raise InvalidValueError(f"timeline {timeline!r}: an instant must be a time, not {shown(value)}: {e}") from e
    elif isinstance(value, numbers.Integral) and not is_datetime(value):  # numpy's durations are integers to Python
        nanos = int(value)
    elif kind == "sequence":
        raise InvalidTypeError(f"timeline {timeline!r} is a sequence: its instant must be an int, not {shown(value)}")
    elif isinstance(value, numbers.Real):
        if math.isnan(value):
            raise InvalidValueError(f"timeline {timeline!r}: an instant must be a number, not {shown(value)}")
        exact = float(value) * 1e9
        nanos = round(exact) if math.isfinite(exact) else int(math.copysign(GREATEST, value))
    else:
        raise InvalidTypeError(
            f"timeline {timeline!r}: an instant must be an int, a float (seconds) or a datetime, not {shown(value)}"
        )
    return min(max(nanos, LEAST), GREATEST)
