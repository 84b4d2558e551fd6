"""What earlier attempts of a task have stored, so that a later one does not store it again."""

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
    """Where a stored value is."""

    entity_path: str
    kind: str
    timeless: bool
    times: Mapping[str, Any]
    error: bool

    def is_place_of(self, value: LoggedValue) -> bool:
        """Whether a value goes to the same place."""
        times = {**value.time.sequences, **{name: np.datetime64(t, "ns") for name, t in value.time.times.items()}}
        return (self.entity_path, self.kind, self.timeless, self.times) == (
            value.entity_path,
            value.kind,
            value.time.timeless,
            times,
        )


class EarlierAttempts:
    """The values of one producer that are in a recording already.

    The key of a value is (producer, seq): an attempt that logs the same again gives the same keys. Where it does not,
    because it sees other rows, a key may belong to something else: then the value gets a producer of its own, so that
    nothing is lost.
    """

    def __init__(self, store: str, recording_id: str, producer: bytes, *, read: bool) -> None:
        """`read`: look what there is; False: there was no earlier attempt. Raises StoreError, OSError."""
        self.stored = 0
        """Values that were not stored again."""
        self.changed = 0
        """Values whose key belongs to something else."""
        self.bad = 0
        """Of the stored ones, those whose error only the pipeline found."""
        self._producer = producer
        self._other = secrets.token_bytes(16)
        self._found = dict(_find(store, recording_id, producer)) if read else {}

    @property
    def producers(self) -> tuple[bytes, ...]:
        """Whose the values of this attempt are."""
        return (self._producer, self._other) if self.changed else (self._producer,)

    def admit(self, value: LoggedValue) -> LoggedValue | None:
        """The value as it is to be stored; None: it is."""
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
    """Each value of a producer: its seq, and where it is."""
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
