"""The current recording: the one that a call names, else the block's, else the thread's, else the global one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from lumatile.errors import shown, warn
from lumatile.log.binding import names_arguments
from lumatile.log.blocks import recording_of_block
from lumatile.log.stream import Stream
from lumatile.sink.sinks import LOCAL_SERVICE, Durable

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream  # for annotations only: a recording's block uses this module


class _ThreadRecording(threading.local):
    recording: RecordingStream | None = None


class _GlobalRecording:
    recording: RecordingStream | None = None


_THREAD = _ThreadRecording()
_PROCESS = _GlobalRecording()


def get_data_recording(recording: RecordingStream | None = None) -> RecordingStream | None:
    """Return the recording that a log call of this thread goes to.

    Args:
        recording: The recording that the call names; None: it names none.

    Returns:
        `recording`, else that of the `with` block, else the thread's, else the global one; None: there is none.
    """
    return recording or get_thread_local_data_recording() or _PROCESS.recording


def get_global_data_recording() -> RecordingStream | None:
    """Return the global recording.

    Returns:
        The recording; None: there is none.
    """
    return _PROCESS.recording


def set_global_data_recording(recording: RecordingStream | None) -> RecordingStream | None:
    """Choose the global recording.

    Args:
        recording: The recording that becomes global; None: there is none any more.

    Returns:
        The global recording before.
    """
    before, _PROCESS.recording = _PROCESS.recording, recording
    return before


def get_thread_local_data_recording() -> RecordingStream | None:
    """Return the recording of the `with` block that this call is in, else this thread's.

    Returns:
        The recording; None: there is no such block, and the thread has none of its own.
    """
    return recording_of_block() or _THREAD.recording


def set_thread_local_data_recording(recording: RecordingStream | None) -> RecordingStream | None:
    """Choose this thread's recording, which comes before the global one and after that of a `with` block.

    Args:
        recording: The recording that becomes the thread's; None: the thread has none of its own any more.

    Returns:
        The thread's recording before.
    """
    before, _THREAD.recording = _THREAD.recording, recording
    return before


def recording_or_warn(recording: RecordingStream | None = None) -> RecordingStream | None:
    """Return `get_data_recording(recording)`; give a LumatileWarning if it is None or `recording` is no recording."""
    if recording is not None and not isinstance(recording, Stream):
        warn(f"nothing was done: recording must be a RecordingStream, not {shown(recording)}")
        return None
    found = get_data_recording(recording)
    if found is None:
        warn("nothing was done: there is no recording here; call lumatile.init first")
    return found


def get_application_id(recording: RecordingStream | None = None) -> str | None:
    """Return the application id of a recording.

    Args:
        recording: The recording; None: the current one.

    Returns:
        The id; None: there is no recording.
    """
    found = get_data_recording(recording)
    return None if found is None else found.application_id


def get_recording_id(recording: RecordingStream | None = None) -> str | None:
    """Return the id of a recording.

    Args:
        recording: The recording; None: the current one.

    Returns:
        The id; None: there is no recording.
    """
    found = get_data_recording(recording)
    return None if found is None else found.recording_id


def is_enabled(recording: RecordingStream | None = None) -> bool:
    """Return whether what is logged to a recording is kept.

    Args:
        recording: The recording; None: the current one.

    Returns:
        False where there is no recording, and where it logs to off://, as with `init(default_enabled=False)`.
    """
    found = get_data_recording(recording)
    return found is not None and found.enabled


@names_arguments
def save(store: str | os.PathLike[str], *, backend: str = "auto", recording: RecordingStream | None = None) -> None:
    """Log the current recording to a store from now on; the sink in use before is flushed and closed.

    Args:
        store: The path of the store's directory, or a URL, as for `new_recording`.
        backend: What makes the tiles: "auto", "numpy", "numba" or "cuda".
        recording: The recording; None: the current one.

    Raises:
        SinkError: The store cannot be opened.
        InvalidValueError: There is no such URL scheme or backend, or this process writes no store at the URL and
            `backend` is given.
        FlushError: Not everything that was logged before is durable; the store is open then.
    """
    if (found := recording_or_warn(recording)) is not None:
        found.save(store, backend=backend)


@names_arguments
def connect(url: str = LOCAL_SERVICE, *, recording: RecordingStream | None = None) -> None:
    """Log the current recording to a URL from now on; the sink in use before is flushed and closed.

    Args:
        url: A service, grpc://HOST:PORT, or whatever else `new_recording` takes as `sink`; by default a
            `lumatile serve` on this machine.
        recording: The recording; None: the current one.

    Raises:
        SinkError: The sink cannot be opened.
        InvalidValueError: There is no such URL scheme.
        FlushError: Not everything that was logged before is durable; the new sink is open then.
    """
    if (found := recording_or_warn(recording)) is not None:
        found.connect(url)


@names_arguments
def disconnect(*, timeout: float | None = None, recording: RecordingStream | None = None) -> None:
    """Flush the current recording and close its sink; values logged afterwards are lost until `save` or `connect`.

    Args:
        timeout: The longest wait, in seconds; None: as long as it takes.
        recording: The recording; None: the current one.

    Raises:
        FlushError: As in `flush`; the sink is closed then too.
    """
    if (found := recording_or_warn(recording)) is not None:
        found.disconnect(timeout=timeout)


@names_arguments
def flush(timeout: float | None = None, *, recording: RecordingStream | None = None) -> Durable:
    """Wait until all values that this process logged to the current recording are durable.

    Args:
        timeout: The longest wait, in seconds; None: as long as it takes.
        recording: The recording; None: the current one.

    Returns:
        Where they are: "store" or "spool".

    Raises:
        FlushError: Some are not, or were dropped or lost since the last flush; `undelivered` says how many. It is
            raised in lenient mode too.
    """
    found = recording_or_warn(recording)
    return "store" if found is None else found.flush(timeout)


@names_arguments
def set_strict_mode(strict: bool, *, recording: RecordingStream | None = None) -> None:
    """Choose what a bad call of the current recording does.

    Args:
        strict: True: it raises a LumatileError; False: it gives a LumatileWarning, and leaves an error row.
        recording: The recording; None: the current one.
    """
    if (found := recording_or_warn(recording)) is not None:
        found.set_strict_mode(strict)
