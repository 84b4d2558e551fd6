"""A recording that is closed when its block ends (Lumatile's own block only flushes)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lumatile as lt


@contextmanager
def recording_into(folder: Path, **settings: Any) -> Iterator[lt.RecordingStream]:
    """A new recording into the store at `folder`; `settings` as in `lt.new_recording`."""
    recording = lt.new_recording("benchmark", sink=folder, **settings)
    yield recording
    recording.disconnect()
