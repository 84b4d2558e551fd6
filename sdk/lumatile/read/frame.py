"""One logged value, as it is read back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import InvalidTypeError, NotFoundError, SourceNotKeptError
from lumatile.format.point_planes import PLANES, decode_numbers, decode_source
from lumatile.read.frame_row import FrameRow
from lumatile.read.frame_tiles import TEXELS, FrameTiles
from lumatile.read.point_cloud import PointCloud, PointColumns
from lumatile.read.rows import RowBatch
from lumatile.read.source import depth_from_tiles, from_plane, image_from_tiles
from lumatile.values import Kind
from lumatile_kernels.layout import level_sizes

if TYPE_CHECKING:
    from lumatile.annotations import AnnotationContext

RASTER = ("image", "depth", "segmentation")

FIRST_PLANES = {"image": "pixels", "depth": "pixels", "segmentation": "ids", "points": "position"}
"""What `Frame.tile` takes without a plane."""


class Frame(FrameRow):
    """One logged value. Made by a recording's queries; its content is read when it is asked for.

    Methods raise CorruptStoreError where the stored bytes don't make sense, NotFoundError for a level or tile that is
    not there, InvalidTypeError where the frame is of another kind.
    """

    def __init__(
        self,
        batch: RowBatch,
        row: int,
        open_tiles: Callable[[Frame], FrameTiles],
        find_context: Callable[[Frame], AnnotationContext],
    ) -> None:
        """Row `row` of `batch`. `open_tiles`, `find_context`: how its recording finds what lies elsewhere."""
        super().__init__(batch, row)
        self._open_tiles = open_tiles
        self._find_context = find_context

    @cached_property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each level, finest first; points: (1, points of the level)."""
        if self.shape is None:
            return ()
        if self.kind != "points":
            return level_sizes(*self.shape[:2])
        counts: dict[int, int] = {}
        for (_, level, *_), tile in self._tiles.rows("position"):
            counts[level] = counts.get(level, 0) + tile.width
        return tuple((1, counts.get(level, 0)) for level in range(max(counts, default=-1) + 1))

    def tile(self, *, level: int = 0, x: int = 0, y: int = 0, plane: str | None = None) -> NDArray[Any]:
        """One tile: (h, w, channels), read-only; a view of the mapped file where its codec is raw.

        `plane`: pixels (image, depth), ids or colors (segmentation; default ids); points: position (default), color,
        radius, class_id, keypoint_id, identifier, source_index: chunk `x` of the level, (n,) or (n, components).
        """
        plane = plane or FIRST_PLANES.get(self.kind, "")
        key = (plane, level, x, y)
        if self.kind != "points":
            return self._tiles.texels(key, self._plane_format(plane))
        tile = self._tiles.stored(key)
        if plane not in PLANES and plane != "source_index":
            raise InvalidTypeError(f"plane {plane!r} has no array form; points() decodes it")
        return decode_numbers(plane, self._tiles.decoded(tile), tile.width, self._shape_of("points")[1])

    def annotation_context(self) -> AnnotationContext:
        """The context that was logged; of a frame of another kind: the one that holds for it, empty without any."""
        if self.kind != "annotation_context":
            return self._find_context(self)
        from lumatile.annotations import AnnotationContext

        try:
            return AnnotationContext.from_json(self._get("body"))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self.corrupt(f"annotation context: {e}") from e

    def checked(self) -> Frame:
        """The same frame, which compares the checksum of all that it reads, and raises CorruptStoreError."""
        return Frame(self._batch, self._row, lambda frame: self._open_tiles(frame).checking(), self._find_context)

    def stored_tiles(self) -> FrameTiles:
        """Its rows of the tiles file, of all planes, as they are stored."""
        return self._tiles

    def check_tile(self, *, level: int = 0, x: int = 0, y: int = 0, plane: str | None = None) -> None:
        """Compare the checksum of a tile, which `tile` does not. Raises CorruptStoreError."""
        self._tiles.check((plane or FIRST_PLANES.get(self.kind, ""), level, x, y))

    def image(self, level: int = 0) -> NDArray[Any]:
        """(h, w, 4) linear light, premultiplied: float16, or float32 where the tile format is rgba32float."""
        self._shape_of("image")
        return _linear(self._level("pixels", level))

    def depth(self, level: int = 0) -> NDArray[np.float32]:
        """(h, w) metres; 0: invalid."""
        self._shape_of("depth")
        return self._level("pixels", level)[..., 0]

    def ids(self, level: int = 0) -> NDArray[Any]:
        """(h, w) class ids, uint8 or uint16."""
        self._shape_of("segmentation")
        return self._level("ids", level)[..., 0]

    def colors(self, level: int = 0) -> NDArray[np.uint8]:
        """(h, w, 4) sRGB with straight alpha: the class ids in the colors of the annotation context that holds."""
        self._shape_of("segmentation")
        context = self._find_context(self)
        if self.palette_hash == context.palette_hash:
            return self._level("colors", level)
        return _colored(self.ids(level), context)

    def points(self) -> PointCloud:
        """The cloud, in logged order."""
        shape = self._shape_of("points")
        columns = PointColumns(self._tiles, shape)
        class_ids, keypoint_ids = columns.numbers("class_id"), columns.numbers("keypoint_id")
        colors, labels = columns.numbers("color"), columns.labels()
        display_labels = labels
        if class_ids is not None:
            context = self._find_context(self)
            if colors is None or self.palette_hash not in (None, context.palette_hash):
                colors = context.point_colors(class_ids, keypoint_ids)
            names = context.point_labels(class_ids, keypoint_ids)
            explicit = labels or [None] * len(names)
            display_labels = [name if label is None else label for label, name in zip(explicit, names, strict=True)]
        return PointCloud(
            positions=self._positions(columns),
            colors=colors,
            radii=columns.numbers("radius"),
            class_ids=class_ids,
            keypoint_ids=keypoint_ids,
            identifiers=columns.numbers("identifier"),
            labels=labels,
            display_labels=display_labels,
        )

    def source(self) -> Any:
        """Exactly what was logged.

        Images, depth, segmentation: an array of the logged shape and dtype; an image file: its bytes (JPEG) or its
        pixels (PNG). Points: the columns as given, by their names in `log_points`. Annotation contexts, extension
        components and clears: their JSON, parsed. Raises SourceNotKeptError.
        """
        if self.kind in ("annotation_context", "ext"):
            return self._json(self._get("body" if self.kind == "annotation_context" else "ext"))
        if self.kind == "clear":
            return {"recursive": self.recursive}
        if self.kind == "gap":
            return self._get("body")
        kept, dtype, shape = (self._get(column) for column in ("source", "source_dtype", "source_shape"))
        if kept == "plane":
            data = self._tiles.joined("source")
            if self.kind == "points":
                return decode_source(data)
            return data.tobytes() if dtype == "jpeg" else from_plane(data, dtype, shape)
        if kept != "tiles":
            raise SourceNotKeptError(f"{self.entity_path!r}: logged with keep_source=False")
        if self.kind == "image":
            array: NDArray[Any] = image_from_tiles(self._level("pixels", 0), self._shape_of("image")[2])
        elif self.kind == "depth":
            array = depth_from_tiles(self.depth(), self.meter or 0.0, dtype)
        else:
            array = self.ids().astype(dtype)
        try:
            return array.reshape(shape)
        except ValueError as e:
            raise self.corrupt(f"source shape: {e}") from e

    def to_rgba8(self, level: int = 0, *, tile: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(h, w, 4) sRGB with straight alpha, for eyes: a level, or tile (x, y) of it alone.

        Depth goes through the colormap turbo, from the least to the greatest of the coarsest level, so that tiles and
        levels agree; invalid is transparent.
        """
        kind = self.kind
        self._shape_of(kind)
        if kind not in RASTER:
            raise InvalidTypeError(f"the frame must be an image, depth or segmentation for this, not {kind!r}")
        plane = FIRST_PLANES[kind]
        texels = self._level(plane, level) if tile is None else self.tile(level=level, x=tile[0], y=tile[1])
        if kind == "segmentation":
            return _colored(texels[..., 0], self._find_context(self))
        return _depth_rgba8(texels[..., 0], self.depth(len(self.levels) - 1)) if kind == "depth" else _rgba8(texels)

    @cached_property
    def _tiles(self) -> FrameTiles:
        return self._open_tiles(self)

    def _shape_of(self, kind: Kind) -> tuple[int, ...]:
        """Its shape, where it is of `kind` and not an error row."""
        if self.kind != kind:
            raise InvalidTypeError(f"the frame must be of kind {kind!r} for this, not {self.kind!r}")
        if self.shape is None:
            raise NotFoundError(f"{self.entity_path!r} logged no {kind} here: {self.error}")
        return self.shape

    def _plane_format(self, plane: str) -> str:
        """The texels of a raster plane."""
        name = "rgba8unorm-srgb" if plane == "colors" else self.format
        if self.kind not in RASTER or plane not in ("pixels", "ids", "colors"):
            raise NotFoundError(f"a frame of kind {self.kind!r} has no tiles in a plane {plane!r}")
        if name not in TEXELS:
            raise self.corrupt(f"tile format {name!r}")
        return name

    def _level(self, plane: str, level: int) -> NDArray[Any]:
        if not 0 <= level < len(self.levels):
            raise NotFoundError(f"level must be 0 to {len(self.levels) - 1}, not {level}")
        return self._tiles.level(plane, level, self._shape_of(self.kind), self._plane_format(plane))

    def _positions(self, columns: PointColumns) -> NDArray[Any]:
        count, dimensions = self._shape_of("points")
        if self._get("source") == "plane":
            given = np.asarray(self.source().get("positions", ()))
            if given.size != count * dimensions:
                raise self.corrupt(f"source: {given.size} coordinates are not {count} points")
            return given.reshape(count, dimensions).astype(np.result_type(given, np.float32), copy=False)
        offsets = columns.numbers("position")
        if offsets is None:
            return np.zeros((0, dimensions), np.float32)
        positions: NDArray[np.float64] = np.asarray(self._get("point_origin"), np.float64) + offsets
        return positions


def _linear(texels: NDArray[Any]) -> NDArray[Any]:
    """(h, w, 4) texels of an image as linear light, premultiplied: float16 or float32."""
    if texels.dtype != np.uint8:
        return texels
    from lumatile_kernels.tables import srgb_to_half, unit_interval

    linear: NDArray[np.float16] = srgb_to_half(np.dtype(np.uint8))[texels]
    linear[..., 3] = unit_interval(np.dtype(np.uint8))[texels[..., 3]]
    return linear


def _rgba8(texels: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w, 4) texels of an image as sRGB with straight alpha."""
    from lumatile_kernels.tables import encode_srgb, encode_unorm8

    linear = _linear(texels).astype(np.float32)
    alpha = np.clip(linear[..., 3:], 0, 1)
    straight = np.divide(linear[..., :3], alpha, out=np.zeros_like(linear[..., :3]), where=alpha > 0)
    return np.concatenate([encode_srgb(straight), encode_unorm8(alpha)], axis=2)


def _depth_rgba8(depth: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(h, w) metres through turbo, from the least to the greatest valid of `whole`."""
    from lumatile_kernels.tables import turbo

    low, high = (whole[whole > 0].min(), whole.max()) if (whole > 0).any() else (0, 1)
    scaled = (depth.astype(np.float64) - low) / max(high - low, np.finfo(np.float32).tiny)
    shown = np.zeros((*depth.shape, 4), np.uint8)
    valid = depth > 0
    shown[valid, :3] = turbo()[np.rint(np.clip(scaled[valid], 0, 1) * 255).astype(np.uint8)]
    shown[valid, 3] = 255
    return shown


def _colored(ids: NDArray[Any], context: AnnotationContext) -> NDArray[np.uint8]:
    """(h, w) class ids in the colors of a context."""
    colors: NDArray[np.uint8] = context.palette(256 if ids.dtype == np.uint8 else 65536)[ids]
    return colors
