"""The functions that set where the values to come lie on the user's timelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from lumatile.log.current import recording_or_warn
from lumatile.log.timelines import TimelineKind, nanoseconds, nanoseconds_of_seconds, sequence_number

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream


def set_time_sequence(
    timeline: str, sequence: SupportsIndex | None, *, recording: RecordingStream | None = None
) -> None:
    """Set this thread's place on a sequence timeline, such as "frame", for the values it logs from now on.

    `sequence`: an integer of 64 bits; None removes the timeline from the values to come.
    A timeline is a sequence or a time for the whole recording: a name used as both is a ValueError.
    """
    _set(recording, "sequence", timeline, lambda: sequence_number(sequence))


def set_time_seconds(timeline: str, seconds: SupportsFloat | None, *, recording: RecordingStream | None = None) -> None:
    """Set this thread's place on a time timeline, in seconds since the epoch, for the values it logs from now on.

    `seconds`: stored as round(seconds * 1e9) nanoseconds; None removes the timeline from the values to come.
    A timeline is a sequence or a time for the whole recording: a name used as both is a ValueError.
    """
    _set(recording, "time", timeline, lambda: nanoseconds_of_seconds(seconds))


def set_time_nanos(timeline: str, nanos: SupportsIndex | None, *, recording: RecordingStream | None = None) -> None:
    """Set this thread's place on a time timeline, in nanoseconds since the epoch, for the values it logs from now on.

    `nanos`: an integer of 64 bits; None removes the timeline from the values to come.
    A timeline is a sequence or a time for the whole recording: a name used as both is a ValueError.
    """
    _set(recording, "time", timeline, lambda: nanoseconds(nanos))


def reset_time(*, recording: RecordingStream | None = None) -> None:
    """Remove all of the user's timelines from the values that this thread logs from now on."""
    if (stream := recording_or_warn(recording)) is not None:
        stream.timelines.reset()


def _set(recording: RecordingStream | None, kind: TimelineKind, timeline: Any, at: Callable[[], int | None]) -> None:
    if (stream := recording_or_warn(recording)) is not None:
        stream.attempt(lambda: stream.timelines.set(kind, timeline, at()))
