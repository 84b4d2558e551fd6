"""The timelines of a recording, and the position of each thread on them."""

from __future__ import annotations

import math
import operator
import threading
import time
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from lumatile.datetimes import is_datetime, nanoseconds_of
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.values import TimePoint

TimelineKind = Literal["sequence", "time"]

NOTHING: Mapping[str, int] = {}
"""No timelines."""


class _Now(threading.local):
    """The position of one thread; its mappings are replaced, never changed, because time points keep them."""

    def __init__(self) -> None:
        self.at: dict[TimelineKind, Mapping[str, int]] = _nowhere()
        self.log_time: int | None = None


def _nowhere() -> dict[TimelineKind, Mapping[str, int]]:
    return {"sequence": NOTHING, "time": NOTHING}


class Timelines:
    """The position of each thread on each of a recording's own timelines."""

    def __init__(self) -> None:
        """Begin with no timeline set."""
        self._now = _Now()
        self._kinds: dict[str, TimelineKind] = {}
        """Name -> the kind that it was first used as, in any thread."""

    def set(self, kind: TimelineKind, name: Any, at: int | None) -> None:
        """Set this thread's position on the timeline `name`.

        `at`: the sequence number, or nanoseconds since the epoch; None: the thread leaves the timeline.
        Raises InvalidValueError for a name that is used as the other kind too, InvalidTypeError for one that is no
        string.
        """
        if not isinstance(name, str) or name not in self._kinds:
            _check_name(name)
        now = self._now.at
        if at is None:
            for each in now:
                now[each] = {known: where for known, where in now[each].items() if known != name}
            return
        if not -(2**63) <= at < 2**63:
            raise InvalidValueError(f"timeline {name!r}: a time point must fit in 64 bits, not {shown(at)}")
        used_as = self._kinds.setdefault(name, kind)
        if used_as != kind:
            raise InvalidValueError(f"timeline {name!r} is a {used_as} in this recording, and cannot be a {kind} too")
        now[kind] = {**now[kind], name: at}

    def reset(self) -> None:
        """Leave all timelines in this thread."""
        self._now.at = _nowhere()
        self._now.log_time = None

    def logged_at(self, log_time: int | None) -> None:
        """Set the log time of the values that this thread copies from another recording.

        `log_time`: nanoseconds since the epoch; None: the time of the call.
        """
        self._now.log_time = log_time

    def time_point(self, log_tick: int, *, timeless: bool) -> TimePoint:
        """Return the position of this thread now, for the value with this number."""
        now = self._now.at
        return TimePoint(
            log_time=time.time_ns() if self._now.log_time is None else self._now.log_time,
            log_tick=log_tick,
            sequences=NOTHING if timeless else now["sequence"],
            times=NOTHING if timeless else now["time"],
            timeless=timeless,
        )


def sequence_number(sequence: Any) -> int | None:
    """Return a position on a sequence timeline. Raises InvalidTypeError for anything but an integer or None."""
    if sequence is None:
        return None
    try:
        return operator.index(sequence)
    except TypeError:
        raise InvalidTypeError(f"sequence must be an integer or None, not {shown(sequence)}") from None


def nanoseconds_of_seconds(seconds: Any) -> int | None:
    """Return round(seconds * 1e9), None for None; the exact nanoseconds of a datetime or duration, whatever its unit.

    Raises InvalidTypeError for anything else, InvalidValueError for what is not finite.
    """
    if seconds is None:
        return None
    if is_datetime(seconds):
        return _of_datetime("seconds", seconds)
    if isinstance(seconds, str | bytes):
        raise InvalidTypeError(f"seconds must be a number or None, not {shown(seconds)}")
    try:
        nanos = float(seconds) * 1e9
    except (TypeError, ValueError, OverflowError):
        raise InvalidTypeError(f"seconds must be a number or None, not {shown(seconds)}") from None
    if not math.isfinite(nanos):
        raise InvalidValueError(f"seconds must be finite, not {shown(seconds)}")
    return round(nanos)


def nanoseconds(nanos: Any) -> int | None:
    """Return a position on a time timeline; that of a datetime or duration, whatever its unit.

    Raises InvalidTypeError for anything but those, an integer and None; InvalidValueError for NaT.
    """
    if nanos is None:
        return None
    if is_datetime(nanos):
        return _of_datetime("nanos", nanos)
    try:
        return operator.index(nanos)
    except TypeError:
        raise InvalidTypeError(f"nanos must be an integer or None, not {shown(nanos)}") from None


def _of_datetime(argument: str, value: Any) -> int:
    try:
        return nanoseconds_of(value)
    except ValueError as e:
        raise InvalidValueError(f"{argument} must be a time or a duration, not {shown(value)}: {e}") from e


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise InvalidTypeError(f"timeline must be a string, not {shown(name)}")
    if not name or name in ("log_time", "log_tick") or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise InvalidValueError(
            "timeline must be a non-empty name without control characters, and not log_time or log_tick, "
            f"which are always there; not {shown(name)}"
        )
