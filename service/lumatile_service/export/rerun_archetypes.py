"""Frames as Rerun's archetypes: their components as Arrow arrays, and chunks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.annotations import Annotation
from lumatile.errors import InvalidValueError, SourceNotKeptError
from lumatile.read.frame import Frame
from lumatile.read.frame_row import DRAW_ORDERS

Components = Mapping[str, pa.Array]
"""Rerun's name of a component ("Image:buffer") -> its instances."""

PARTS: Mapping[str, Sequence[str]] = {
    "Image": ("buffer", "format", "draw_order"),
    "EncodedImage": ("blob", "media_type", "draw_order"),
    "DepthImage": ("buffer", "format", "meter", "draw_order"),
    "SegmentationImage": ("buffer", "format", "draw_order"),
    "Points2D": ("positions", "colors", "radii", "labels", "class_ids", "keypoint_ids", "draw_order"),
    "Points3D": ("positions", "colors", "radii", "labels", "class_ids", "keypoint_ids"),
}
"""Archetypes that replace each other -> those of their components that are written."""

COLOR_MODELS = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Rerun's name of the color model."""


class RerunArchetypes:
    """Makes components and chunks with rerun-sdk."""

    def __init__(self) -> None:
        """Import rerun-sdk. Raises InvalidValueError if it is not installed."""
        try:
            import rerun
            import rerun.chunk
        except ModuleNotFoundError as e:
            raise InvalidValueError("writing a .rrd file needs rerun-sdk: install lumatile[rerun]") from e
        self._rerun: Any = rerun
        self._descriptors: dict[str, Any] = {}
        self._cleared = {name: self._components(getattr(rerun, name).cleared()) for name in PARTS}
        self._makers: Mapping[str, Callable[[Frame], tuple[Any, str | None]]] = {
            "image": self._image,
            "depth": self._depth,
            "segmentation": self._segmentation,
            "points": self._points,
            "annotation_context": self._annotation_context,
            "clear": self._clear,
        }
        """Kind of a frame -> the function that makes its archetype, and says what is lost (None: nothing)."""

    def write(self, chunks: Iterable[Any], path: Path, application_id: str, recording_id: str) -> None:
        """Write chunks to a .rrd file, each before the next one is taken. Raises RuntimeError."""
        stream = self._rerun.chunk.LazyChunkStream.from_iter(chunks)
        stream.write_rrd(path, application_id=application_id, recording_id=recording_id)

    def cleared(self, names: Iterable[str]) -> Components:
        """Return the components of the archetypes `names`, without instances."""
        return {f"{name}:{part}": self._cleared[name][f"{name}:{part}"] for name in names for part in PARTS[name]}

    def chunk(
        self,
        entity_path: str,
        row_ids: Sequence[bytes],
        times: Mapping[str, pa.Array],
        columns: Mapping[str, Sequence[pa.Array]],
    ) -> Any:
        """Return a chunk of n rows.

        `row_ids`: n ids of 16 bytes, ascending; of rows at the same time, Rerun takes that with the greatest id as the
        latest, also across entities. `times`: timeline -> n times: int64 for a sequence, timestamp[ns] or duration[ns];
        empty: the rows are static.
        `columns`: component -> n arrays of instances.
        """
        made = self._rerun.chunk.Chunk.from_columns(
            self._rerun.new_entity_path(entity_path.split("/") if entity_path else []),
            indexes=[_Times(name, array) for name, array in times.items()],
            columns=[
                self._rerun.ComponentColumn(
                    self._descriptors[name],
                    _Instances(pa.concat_arrays(arrays)),
                    lengths=[len(each) for each in arrays],
                )
                for name, arrays in columns.items()
            ],
        ).to_record_batch()
        at = next(i for i, field in enumerate(made.schema) if field.metadata[b"rerun:kind"] == b"control")
        field = made.schema.field(at)
        (chunk,) = self._rerun.chunk.Chunk.from_record_batch(made.set_column(at, field, pa.array(row_ids, field.type)))
        return chunk

    def components(self, frame: Frame) -> tuple[Components, str | None]:
        """Return the components of a frame in Rerun, and what is lost of it (None: nothing). Raises LumatileError.

        Its kind is image, depth, segmentation, points, annotation_context or clear.
        """
        with self._rerun.error_utils.catch_and_log_exceptions(strict=True):  # else it only warns
            archetype, lost = self._makers[frame.kind](frame)
        return self._components(archetype), lost

    def _components(self, archetype: Any) -> Components:
        found = {}
        for batch in archetype.as_component_batches():
            descriptor = batch.component_descriptor()
            self._descriptors[descriptor.component] = descriptor
            found[descriptor.component] = batch.as_arrow_array()
        return found

    def _image(self, frame: Frame) -> tuple[Any, str | None]:
        lost = None
        try:
            source = frame.source()
        except SourceNotKeptError:
            source, lost = frame.to_rgba8(), "the source was not kept: tiles, in 8 bits"
        if isinstance(source, bytes):
            blob = self._rerun.EncodedImage(contents=source, media_type="image/jpeg", draw_order=_draw_order(frame))
            return blob, lost
        shape = frame.shape or source.shape
        return self._raster("Image", source.reshape(*shape[:2], -1)[..., : shape[2]], frame), lost

    def _depth(self, frame: Frame) -> tuple[Any, str | None]:
        try:
            return self._raster("DepthImage", frame.source(), frame, meter=frame.meter), None
        except SourceNotKeptError:
            depth = self._raster("DepthImage", frame.depth(), frame, meter=1.0)
            return depth, "the source was not kept: the tiles' metres"

    def _segmentation(self, frame: Frame) -> tuple[Any, str | None]:
        return self._raster("SegmentationImage", frame.ids(), frame), None

    def _raster(self, name: str, pixels: NDArray[Any], frame: Frame, **more: Any) -> Any:
        height, width = pixels.shape[:2]
        image_format = self._rerun.components.ImageFormat(
            width=width,
            height=height,
            channel_datatype=self._rerun.ChannelDatatype.from_np_dtype(pixels.dtype),
            color_model=COLOR_MODELS[pixels.shape[2]] if name == "Image" else None,
        )
        return getattr(self._rerun, name).from_fields(
            buffer=pixels.tobytes(), format=image_format, draw_order=_draw_order(frame), **more
        )

    def _points(self, frame: Frame) -> tuple[Any, str | None]:
        cloud = frame.points()
        lost = None if cloud.identifiers is None else "identifiers have no place"
        if cloud.positions.dtype == np.float64 and (cloud.positions.astype(np.float32) != cloud.positions).any():
            lost = "positions are float32"
        try:
            logged = frame.source()
            colored = "colors" in logged
        except SourceNotKeptError:
            logged, colored = {}, frame.palette_hash is None
        columns: dict[str, Any] = {
            "radii": cloud.radii,
            "class_ids": cloud.class_ids,
            "keypoint_ids": cloud.keypoint_ids,
            "labels": None if cloud.labels is None else [label or "" for label in cloud.labels],
            "colors": _packed(cloud.colors) if colored and cloud.colors is not None else None,
        }
        for name, column in columns.items():
            if column is not None and len(column) > 1 and _is_one(name, logged.get(name)):
                columns[name] = column[:1]
        flat = cloud.positions.shape[1] == 2
        if flat:
            columns["draw_order"] = _draw_order(frame)
        make = self._rerun.Points2D if flat else self._rerun.Points3D
        return make.from_fields(positions=cloud.positions.astype(np.float32), **columns), lost

    def _annotation_context(self, frame: Frame) -> tuple[Any, str | None]:
        described = [
            self._rerun.ClassDescription(
                info=self._info(each.info),
                keypoint_annotations=[self._info(keypoint) for keypoint in each.keypoints],
                keypoint_connections=list(each.connections),
            )
            for each in frame.annotation_context().classes.values()
        ]
        return self._rerun.AnnotationContext(described), None

    def _info(self, annotation: Annotation) -> Any:
        return self._rerun.AnnotationInfo(id=annotation.id, label=annotation.label, color=annotation.color)

    def _clear(self, frame: Frame) -> tuple[Any, str | None]:
        return self._rerun.Clear(recursive=frame.recursive), None


@dataclass(frozen=True)
class _Times:
    """The form in which rerun-sdk takes a column of times."""

    name: str
    array: pa.Array

    def timeline_name(self) -> str:
        return self.name

    def as_arrow_array(self) -> pa.Array:
        return self.array


@dataclass(frozen=True)
class _Instances:
    """The form in which rerun-sdk takes the instances of a component."""

    array: pa.Array

    def as_arrow_array(self) -> pa.Array:
        return self.array


def _draw_order(frame: Frame) -> float | None:
    """Return a frame's draw order; None: it is the kind's default, and Rerun's own defaults give the same order."""
    return None if frame.draw_order == DRAW_ORDERS[frame.kind] else frame.draw_order


def _packed(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return (n, 4) RGBA as Rerun's 0xRRGGBBAA, (n,)."""
    numbers: NDArray[np.uint32] = np.ascontiguousarray(colors).view(">u4")[:, 0].astype(np.uint32)
    return numbers


def _is_one(name: str, given: Any) -> bool:
    """Return whether a column was given as one value for all points; a color may be (3,) or (4,)."""
    if given is None:
        return False
    return (np.ndim(given) < 2 or len(given) == 1) if name == "colors" else np.size(given) == 1
