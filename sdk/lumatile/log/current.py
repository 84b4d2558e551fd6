"""The current recording: the one a call names, else the thread's, else the global one."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING

from lumatile.errors import shown, warn
from lumatile.sink.sinks import Durable

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream


class _OfThread(threading.local):
    recording: RecordingStream | None = None

    def __init__(self) -> None:
        self.before: list[RecordingStream | None] = []
        """The thread's recordings outside the `with` blocks it is in."""


class _OfProcess:
    recording: RecordingStream | None = None


_THREAD = _OfThread()
_PROCESS = _OfProcess()


def get_data_recording(recording: RecordingStream | None = None) -> RecordingStream | None:
    """The recording that a log call here goes to: `recording`, else the thread's, else the global one, else None."""
    return recording or _THREAD.recording or _PROCESS.recording


def get_global_data_recording() -> RecordingStream | None:
    """The global recording; None if there is none."""
    return _PROCESS.recording


def set_global_data_recording(recording: RecordingStream | None) -> RecordingStream | None:
    """Make `recording` the global one, or nothing with None. Returns the one before."""
    before, _PROCESS.recording = _PROCESS.recording, recording
    return before


def get_thread_local_data_recording() -> RecordingStream | None:
    """This thread's recording; None if it has none of its own."""
    return _THREAD.recording


def set_thread_local_data_recording(recording: RecordingStream | None) -> RecordingStream | None:
    """Make `recording` this thread's, before the global one; None: no longer. Returns the one before."""
    before, _THREAD.recording = _THREAD.recording, recording
    return before


def recording_or_warn(recording: RecordingStream | None = None) -> RecordingStream | None:
    """As `get_data_recording`, with a LumatileWarning where there is none, or `recording` is none."""
    if recording is not None and not isinstance(recording, _recording_class()):
        warn(f"nothing was done: recording must be a RecordingStream, not {shown(recording)}")
        return None
    found = get_data_recording(recording)
    if found is None:
        warn("nothing was done: there is no recording here; call lumatile.init first")
    return found


@cache
def _recording_class() -> type[RecordingStream]:
    from lumatile.log.recording import RecordingStream  # which imports this module

    return RecordingStream


def enter(recording: RecordingStream) -> None:
    """Make `recording` the thread's until the matching `leave`."""
    _THREAD.before.append(set_thread_local_data_recording(recording))


def leave() -> None:
    """Make the recording before the matching `enter` the thread's again."""
    set_thread_local_data_recording(_THREAD.before.pop())


def save(store: str | os.PathLike[str], *, backend: str = "auto") -> None:
    """Log the current recording to the store at `store`; see `RecordingStream.save`."""
    if (recording := recording_or_warn()) is not None:
        recording.save(store, backend=backend)


def connect(url: str) -> None:
    """Log the current recording to `url`; see `RecordingStream.connect`."""
    if (recording := recording_or_warn()) is not None:
        recording.connect(url)


def disconnect(*, timeout: float | None = None) -> None:
    """Flush the current recording and close its sink; see `RecordingStream.disconnect`."""
    if (recording := recording_or_warn()) is not None:
        recording.disconnect(timeout=timeout)


def flush(timeout: float | None = None) -> Durable:
    """Wait until all that the current recording logged is durable; see `RecordingStream.flush`."""
    recording = recording_or_warn()
    return "store" if recording is None else recording.flush(timeout)


def set_strict_mode(strict: bool) -> None:
    """Let bad calls of the current recording raise, or warn; see `RecordingStream.set_strict_mode`."""
    if (recording := recording_or_warn()) is not None:
        recording.set_strict_mode(strict)
