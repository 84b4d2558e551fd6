"""A recording that is closed at the end of its block (the block of a RecordingStream only flushes)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lumatile as lt


@contextmanager
def recording_into(folder: Path, **settings: Any) -> Iterator[lt.RecordingStream]:
    """Start a new recording in the store at `folder`; `settings` as in `lt.new_recording`."""
    recording = lt.new_recording("benchmark", sink=folder, **settings)
    yield recording
    recording.disconnect()
