"""Instants and durations of Python, numpy and pandas as nanoseconds."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_MANY_MONTHS = 12 * 10**7
"""Months far beyond 64 bits of nanoseconds, which numpy still has days for."""

_NANOSECONDS = {
    "W": 7 * 86_400 * 10**9,
    "D": 86_400 * 10**9,
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 1000,
    "ns": 1,
}
"""Unit of numpy -> its nanoseconds."""

_PARTS = {"ps": 1000, "fs": 10**6, "as": 10**9}
"""Unit of numpy -> how many are one nanosecond."""


def is_datetime(value: Any) -> bool:
    """Return whether `value` is an instant or a duration of datetime, numpy or pandas; also a numpy array of one."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "mM" and value.size == 1
    return isinstance(value, dt.datetime | dt.timedelta | np.datetime64 | np.timedelta64)


def nanoseconds_of(value: Any) -> int:
    """Return the nanoseconds since the epoch of an instant (UTC where it names no zone), or those of a duration.

    Parts of nanoseconds are dropped; the result may have more than 64 bits.
    Raises ValueError where there is no such number: NaT, and durations in months, years or no unit.
    """
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    if isinstance(value, np.datetime64 | np.timedelta64):
        return _of_numpy(value)
    if str(value) == "NaT":  # pandas' is a datetime
        raise ValueError("NaT is no time")
    if isinstance(value, dt.datetime):
        exact = int(getattr(value, "nanosecond", 0))  # pandas.Timestamp has more digits than its base class
        value = (value if value.tzinfo else value.replace(tzinfo=dt.UTC)) - _EPOCH
    else:
        exact = int(getattr(value, "nanoseconds", 0))  # pandas.Timedelta
    return int(value.days * 86_400 + value.seconds) * 10**9 + int(value.microseconds) * 1000 + exact


def _of_numpy(value: np.datetime64 | np.timedelta64) -> int:
    unit, step = np.datetime_data(value.dtype)
    if np.isnat(value):
        raise ValueError("NaT is no time")
    count = int(value.view(np.int64)) * step
    if unit in ("Y", "M") and isinstance(value, np.datetime64):
        months = min(max(count * (12 if unit == "Y" else 1), -_MANY_MONTHS), _MANY_MONTHS)
        count, unit = int(np.datetime64(months, "M").astype("datetime64[D]").view(np.int64)), "D"
    if unit in _PARTS:
        return count // _PARTS[unit]
    if unit not in _NANOSECONDS:
        raise ValueError(f"a duration in the unit {unit!r} of numpy has no length in nanoseconds")
    return count * _NANOSECONDS[unit]
