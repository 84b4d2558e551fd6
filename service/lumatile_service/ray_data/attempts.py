"""Values that earlier attempts of a write task have stored, which later attempts do not store again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader
from lumatile.storage.open_storage import open_storage
from lumatile.values import LoggedValue
from lumatile_service.ray_data.snapshot import frames_of


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The place of a stored value."""

    entity_path: str
    kind: str
    timeless: bool
    times: Mapping[str, Any]
    error: bool

    def is_place_of(self, value: LoggedValue) -> bool:
        """Return whether a value goes to the same place."""
        times = {**value.time.sequences, **{name: np.datetime64(t, "ns") for name, t in value.time.times.items()}}
        return (self.entity_path, self.kind, self.timeless, self.times) == (
            value.entity_path,
            value.kind,
            value.time.timeless,
            times,
        )


class EarlierAttempts:
    """The values of one producer that are in a recording already.

    The key of a value is (producer, seq): an attempt that logs the same values again gives them the same keys. An
    attempt that sees other rows may give a key to another value: that value gets another producer, so that nothing is
    lost.
    """

    def __init__(self, store: str, recording_id: str, producer: bytes, *, read: bool) -> None:
        """Read the recording, unless `read` is False: there was no earlier attempt. Raises StoreError, OSError."""
        self.stored = 0
        """The number of values that were not stored again."""
        self.changed = 0
        """The number of values whose key belongs to another value."""
        self.bad = 0
        """The number of values not stored again whose error only the pipeline had found."""
        self._producer = producer
        self._other = secrets.token_bytes(16)
        self._found = dict(_find(store, recording_id, producer)) if read else {}

    @property
    def producers(self) -> tuple[bytes, ...]:
        """The producers of the values of this attempt."""
        return (self._producer, self._other) if self.changed else (self._producer,)

    def admit(self, value: LoggedValue) -> LoggedValue | None:
        """Return the value as it is to be stored; None: it is stored already."""
        found = self._found.get(value.seq)
        if found is None:
            return value
        if found.is_place_of(value):
            self.stored += 1
            self.bad += found.error and value.error is None
            return None
        self.changed += 1
        return replace(value, producer=self._other)


def _find(store: str, recording_id: str, producer: bytes) -> list[tuple[int, _Stored]]:
    """Return seq and place of each value of a producer."""
    storage = open_storage(store).recording(recording_id)
    if not storage.exists():
        return []
    recording = RecordingReader(storage, recording_id)
    storage.settle()
    frames = frames_of(recording, recording.entities())
    return [(frame.key[1], _stored(frame)) for frame in frames if frame.key[0] == producer]


def _stored(frame: Frame) -> _Stored:
    times = {name: time for name, time in frame.times.items() if name not in ("log_time", "log_tick")}
    return _Stored(
        entity_path=frame.entity_path,
        kind=frame.kind,
        timeless=frame.timeless,
        times=times,
        error=frame.error is not None,
    )
