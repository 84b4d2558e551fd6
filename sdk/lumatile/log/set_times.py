"""The functions that set this thread's position on the timelines of the current recording."""

from __future__ import annotations

import datetime as dt
from typing import SupportsFloat, SupportsIndex

from lumatile.log.arguments import lenient
from lumatile.log.current import recording_or_warn
from lumatile.log.recording import RecordingStream


@lenient
def set_time_sequence(timeline: str, sequence: SupportsIndex | None, recording: RecordingStream | None = None) -> None:
    """Set this thread's position on a sequence timeline, such as "frame", for the values it logs from now on.

    A timeline is a sequence or a time for the whole recording.

    Args:
        timeline: The name of the timeline.
        sequence: An integer of 64 bits; None: the values to come are not on the timeline.
        recording: The recording whose timeline it is; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a name that is used as a time too, and an integer that does not fit (a
            ValueError).
        InvalidTypeError: In strict mode, for a name that is no string, and a sequence that is no integer (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.set_time_sequence(timeline, sequence)


@lenient
def set_time_seconds(
    timeline: str, seconds: SupportsFloat | dt.timedelta | dt.datetime | None, recording: RecordingStream | None = None
) -> None:
    """Set this thread's position on a time timeline, in seconds, for the values it logs from now on.

    A timeline is a sequence or a time for the whole recording.

    Args:
        timeline: The name of the timeline.
        seconds: Seconds since the epoch, stored as round(seconds * 1e9) nanoseconds; or an instant (datetime, UTC where
            it names no zone; numpy.datetime64; pandas.Timestamp) or a duration (timedelta) of any unit, stored exactly.
            None: the values to come are not on the timeline.
        recording: The recording whose timeline it is; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a name that is used as a sequence too, and seconds that are not finite or
            do not fit in 64 bits as nanoseconds (a ValueError).
        InvalidTypeError: In strict mode, for a name that is no string, and seconds that are no number (a TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.set_time_seconds(timeline, seconds)


@lenient
def set_time_nanos(
    timeline: str, nanos: SupportsIndex | dt.timedelta | dt.datetime | None, recording: RecordingStream | None = None
) -> None:
    """Set this thread's position on a time timeline, in nanoseconds, for the values it logs from now on.

    A timeline is a sequence or a time for the whole recording.

    Args:
        timeline: The name of the timeline.
        nanos: Nanoseconds since the epoch, an integer of 64 bits; or an instant or a duration, as in
            `set_time_seconds`. None: the values to come are not on the timeline.
        recording: The recording whose timeline it is; None: the current one.

    Raises:
        InvalidValueError: In strict mode, for a name that is used as a sequence too, and an integer that does not fit
            (a ValueError).
        InvalidTypeError: In strict mode, for a name that is no string, and nanoseconds that are no integer (a
            TypeError).
    """
    if (found := recording_or_warn(recording)) is not None:
        found.set_time_nanos(timeline, nanos)


@lenient
def reset_time(recording: RecordingStream | None = None) -> None:
    """Remove all timelines of your own from the values that this thread logs from now on.

    Args:
        recording: The recording whose timelines they are; None: the current one.
    """
    if (found := recording_or_warn(recording)) is not None:
        found.reset_time()
