"""Recordings as .rrd files, which Rerun's viewer and SDK open.

The meaning of components is from Rerun's documentation of version 0.41 ("Types", "Concepts"). In Rerun each component
holds until it is logged again; here a value replaces the previous one as a whole. So if an entity has more than one
value, each row also clears the components that it does not have.

Of values at the same time, Rerun takes that with the greatest row id as the latest. It matters across entities for a
recursive clear, so row ids follow the order of logging.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader
from lumatile.values import DATA_KINDS
from lumatile_service.export.exported import Exported
from lumatile_service.export.rerun_archetypes import Components, RerunArchetypes
from lumatile_service.export.selection import Selection
from lumatile_service.export.tally import ExportTally

CHUNK_BYTES = 1 << 20
"""The size up to which rows of one entity are combined into a chunk, in bytes."""

CHUNK_ROWS = 1024

CONTEXT = "annotation_context"

NEAR_EPOCH = round(10 * 365.25 * 86400 * 10**9)
"""Ten years in nanoseconds: if all times of a timeline are this near to 1970-01-01, they are durations."""


def write_rrd(recording: RecordingReader, destination: Path, *, entities: Sequence[str] | None = None) -> Exported:
    """Write a recording to `destination`, a .rrd file, which is replaced if it exists.

    `entities`: entity paths, each with everything below it; None: all. The annotation contexts above them are included.

    The file has the same application id, recording id and entity paths. Sequences, times and log_time are timelines;
    log_tick is not written, as Rerun itself does not write it. A time timeline whose times are all within ten years of
    1970-01-01 becomes a duration. Timeless values are static. Each value becomes one row:

    - image: Image, the pixels exactly as they were logged: uint8, uint16, float16, float32 or float64; L, RGB or RGBA.
      Floats are linear light here, but Rerun's viewer takes them as gamma; nor does it turn JPEG files by their EXIF.
      A JPEG file: EncodedImage, the file itself
    - depth: DepthImage as it was logged, with its meter
    - segmentation: SegmentationImage, the ids as uint8 or uint16
    - points: Points2D or Points3D, positions as float32. Colors only if they were logged, uint8 sRGB with straight
      alpha: others are made from the classes, here and in Rerun. Labels that are None become ""
    - annotation_context: AnnotationContext, with keypoints and connections
    - clear: Clear

    draw_order is written if it is not the kind's default and Rerun has one (it has none for Points3D). Extension
    components and identifiers have no place: `lossy` counts the values that have any, `left_out` the values that are
    nothing else. With keep_source=False, the pixels of the tiles are written, images in 8 bits. Error rows and damaged
    frames are left out. Rerun changes ids with characters that it does not allow, such as a dot, and says so.
    Raises InvalidValueError without rerun-sdk, NotFoundError for an entity that does not exist, OSError.
    """
    rerun = RerunArchetypes()
    tally = ExportTally(0)
    chunks = _Chunks(recording, Selection(recording, entities).entities, rerun, tally)
    application_id = recording.application_id or recording.recording_id
    try:
        rerun.write(chunks.all(), destination, application_id, recording.recording_id)
    except RuntimeError as e:
        raise chunks.failure or OSError(f"{destination} cannot be written: {e}") from e
    tally.wrote_bytes(destination.stat().st_size)
    return tally.exported()


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The row of one value."""

    id: bytes
    """Rerun's row id: 16 bytes, which sort in the order of logging."""
    times: Mapping[str, int]
    """Timeline -> int64; empty for a static value."""
    components: Components

    def fits(self, other: _Row) -> bool:
        """Return whether both rows can be in one chunk."""
        return self.times.keys() == other.times.keys() and self.components.keys() == other.components.keys()


class _Chunks:
    """Makes chunks of rows from all values."""

    def __init__(
        self, recording: RecordingReader, entities: Sequence[str], rerun: RerunArchetypes, tally: ExportTally
    ) -> None:
        self._recording = recording
        self._entities = entities
        self._rerun = rerun
        self._tally = tally
        self._types = _time_types(recording)
        producers = pc.unique(recording.frames_table()["producer"]).to_pylist()
        self._ranks = {producer: rank for rank, producer in enumerate(sorted(producers))}
        """Producer -> its rank, which decides the order of values that were logged at the same instant."""
        self.failure: Exception | None = None
        """The exception that ended the chunks, of which rerun-sdk keeps only the text."""

    def all(self) -> Iterator[Any]:
        """Yield the chunks, entity by entity, each in log order."""
        try:
            above = {path for entity in self._entities for path in _ancestors(entity)} - set(self._entities)
            for entity in sorted(above.intersection(self._recording.entities())):
                contexts = [frame for frame in self._recording.frames(entity) if frame.kind == CONTEXT]
                yield from self._grouped(entity, self._rows(contexts))
            for entity in self._entities:
                yield from self._grouped(entity, self._rows(self._recording.frames(entity)))
        except Exception as e:
            self.failure = e
            raise

    def _rows(self, frames: list[Frame]) -> Iterator[_Row]:
        names = {name for frame in frames for name in _archetypes(frame)}
        several = sum(bool(_archetypes(frame)) for frame in frames) > 1
        frames.reverse()
        while frames:  # the bytes that a frame has read are released with it
            frame = frames.pop()
            components = self._components(frame)
            if components is not None:
                if several and _archetypes(frame):
                    components = {**self._rerun.cleared(names), **components}
                times = {} if frame.timeless else _times(frame)
                yield _Row(id=self._row_id(frame), times=times, components=components)

    def _row_id(self, frame: Frame) -> bytes:
        """Return nanoseconds and a counter, big-endian, which sort as rows do: by log_time, producer and seq."""
        producer, seq = frame.key
        counter = (self._ranks[producer] << 40) + seq
        return struct.pack(">QQ", max(0, int(frame.log_time)), counter)

    def _components(self, frame: Frame) -> Components | None:
        """Return the components of a frame, or None if it is left out, and count it."""
        if frame.error is not None:
            self._tally.left_out(f"an error was logged: {frame.error}", error=True)
            return None
        if frame.kind not in (*DATA_KINDS, CONTEXT, "clear"):
            self._tally.left_out(f"there is no place for values of kind {frame.kind!r}", error=False)
            return None
        try:
            components, lossy = self._rerun.components(frame.checked())
        except Exception as e:  # noqa: BLE001 - one frame must not end the export
            self._tally.left_out(f"{type(e).__name__}: {e}", error=True)
            return None
        self._tally.wrote(lossy="extension components have no place" if frame.ext and lossy is None else lossy)
        return components

    def _grouped(self, entity: str, rows: Iterator[_Row]) -> Iterator[Any]:
        group: list[_Row] = []
        nbytes = 0
        for row in rows:
            if group and (nbytes >= CHUNK_BYTES or len(group) >= CHUNK_ROWS or not row.fits(group[0])):
                yield self._chunk(entity, group)
                group, nbytes = [], 0
            group.append(row)
            nbytes += sum(array.nbytes for array in row.components.values())
        if group:
            yield self._chunk(entity, group)

    def _chunk(self, entity: str, rows: Sequence[_Row]) -> Any:
        times = {
            name: pa.array([row.times[name] for row in rows], pa.int64()).cast(self._types[name])
            for name in rows[0].times
        }
        columns = {name: [row.components[name] for row in rows] for name in rows[0].components}
        return self._rerun.chunk(entity, [row.id for row in rows], times, columns)


def _archetypes(frame: Frame) -> Sequence[str]:
    """Return the archetypes that a frame may become and replaces; none if it replaces nothing."""
    if frame.error is not None or frame.kind not in DATA_KINDS:
        return ()
    if frame.kind == "points":
        return ("Points2D",) if frame.shape is not None and frame.shape[1] == 2 else ("Points3D",)
    return {"image": ("Image", "EncodedImage"), "depth": ("DepthImage",)}.get(frame.kind, ("SegmentationImage",))


def _times(frame: Frame) -> dict[str, int]:
    """Return all times of a frame but log_tick, as integers: numbers of sequences, nanoseconds."""
    return {name: int(np.int64(at)) for name, at in frame.times.items() if name != "log_tick"}


def _time_types(recording: RecordingReader) -> dict[str, pa.DataType]:
    """Return timeline -> Arrow type of its times, which tells Rerun the kind of the timeline."""
    far = {"log_time"}
    for maps in recording.frames_table()["times"].chunks:
        names, times = maps.keys, np.abs(maps.items.cast(pa.int64()).to_numpy())
        far.update(names.filter(pa.array(times >= NEAR_EPOCH)).unique().to_pylist())
    types = {"sequence": pa.int64(), "time": pa.duration("ns")}
    return {name: pa.timestamp("ns") if name in far else types[kind] for name, kind in recording.timelines().items()}


def _ancestors(entity: str) -> list[str]:
    """Return the paths above an entity, including the root."""
    parts = entity.split("/")
    return ["/".join(parts[:length]) for length in range(len(parts))] if entity else []
