"""A frame: one logged value, as it is read back.

Longer than other files for the docstrings of the methods that users call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import InvalidTypeError, NotFoundError, SourceNotKeptError
from lumatile.format.point_planes import COLUMN_PLANES, PLANES, column_as_given, decode_numbers, decode_source
from lumatile.read.frame_row import FrameRow
from lumatile.read.frame_tiles import TEXELS, FrameTiles
from lumatile.read.pictures import depth_to_rgba8, ids_to_rgba8, image_to_rgba8, to_linear
from lumatile.read.point_cloud import PointCloud, StoredColumns
from lumatile.read.rows import RowBatch
from lumatile.read.source import depth_from_tiles, from_plane, image_from_tiles
from lumatile.values import Kind
from lumatile_kernels.layout import level_sizes

if TYPE_CHECKING:
    from lumatile.annotations import AnnotationContext

RASTER = ("image", "depth", "segmentation")

FIRST_PLANES = {"image": "pixels", "depth": "pixels", "segmentation": "ids", "points": "position"}
"""The plane that `Frame.tile` reads where none is given, by kind."""


class Frame(FrameRow):
    """One logged value of a recording, made by the queries of `RecordingReader`; several threads may use it.

    Its content is read when a method asks for it. Every method that reads may raise CorruptStoreError, where the
    stored bytes are not those of such a frame, and OSError, where the store cannot be read. One that is for frames of
    one kind raises InvalidTypeError for another kind, and NotFoundError for an error row, which has no content.
    """

    def __init__(
        self,
        batch: RowBatch,
        row: int,
        open_tiles: Callable[[Frame], FrameTiles],
        find_context: Callable[[Frame], AnnotationContext],
    ) -> None:
        """Make the frame of row `row` of `batch`.

        `open_tiles` finds its stored tiles, `find_context` the annotation context that holds for it.
        """
        super().__init__(batch, row)
        self._open_tiles = open_tiles
        self._find_context = find_context

    @cached_property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of each level, finest first, in texels; for points (1, number of points of the level)."""
        if self.shape is None:
            return ()
        if self.kind != "points":
            return level_sizes(*self.shape[:2])
        counts: dict[int, int] = {}
        for (_, level, *_), tile in self._tiles.rows("position"):
            counts[level] = counts.get(level, 0) + tile.width
        return tuple((1, counts.get(level, 0)) for level in range(max(counts, default=-1) + 1))

    def tile(self, *, level: int = 0, x: int = 0, y: int = 0, plane: str | None = None) -> NDArray[Any]:
        """Read one tile, without comparing its checksum; `check_tile` does that.

        Args:
            level: The level; 0 is the finest.
            x: The column of the tile; for points the chunk within the level.
            y: The row of the tile; for points 0.
            plane: "pixels" (image, depth), "ids" or "colors" (segmentation), "position", "color", "radius",
                "class_id", "keypoint_id", "identifier" or "source_index" (points). None: pixels, ids or position.

        Returns:
            (h, w, channels), read-only, in the tile format; for points (n,) or (n, components). A view of the mapped
            file, where the store is a directory, the codec is raw and the frame has more than 4096 texels or points.

        Raises:
            NotFoundError: There is no such tile or plane.
            InvalidTypeError: The plane has no array form: labels, for example.
            CorruptStoreError: The stored bytes are not those of such a tile.
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
        """Return the context that was logged; for a frame of another kind the one that holds for it.

        Returns:
            The context; an empty one, where none holds.

        Raises:
            CorruptStoreError: The stored context cannot be parsed.
        """
        if self.kind != "annotation_context":
            return self._find_context(self)
        from lumatile.annotations import AnnotationContext

        try:
            return AnnotationContext.from_json(self._get("body"))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self.corrupt(f"annotation context: {e}") from e

    def checked(self) -> Frame:
        """Return the same frame, which compares the checksum of all tiles that it reads.

        Returns:
            A frame whose methods raise CorruptStoreError where a tile has other bytes than were written.
        """
        return Frame(self._batch, self._row, lambda frame: self._open_tiles(frame).checking(), self._find_context)

    def stored_tiles(self) -> FrameTiles:
        """Return the rows of the tiles file that belong to the frame, of all planes.

        Raises:
            CorruptStoreError: They are not as many as were written, or make no sense.
        """
        return self._tiles

    def check_tile(self, *, level: int = 0, x: int = 0, y: int = 0, plane: str | None = None) -> None:
        """Compare the checksum of a tile, which `tile` does not do.

        Args:
            level: The level; 0 is the finest.
            x: The column of the tile; for points the chunk within the level.
            y: The row of the tile; for points 0.
            plane: A plane that `tile` takes, or "label" or "source"; None: pixels, ids or position.

        Raises:
            CorruptStoreError: The tile has other bytes than were written.
            NotFoundError: There is no such tile.
        """
        self._tiles.check((plane or FIRST_PLANES.get(self.kind, ""), level, x, y))

    def image(self, level: int = 0) -> NDArray[Any]:
        """Read a level of an image as premultiplied linear light.

        Args:
            level: The level; 0 is the finest.

        Returns:
            (h, w, 4) float16, or float32 where the tile format is rgba32float.

        Raises:
            NotFoundError: There is no such level, or the frame is an error row.
            InvalidTypeError: The frame is not an image.
        """
        self._shape_of("image")
        return to_linear(self._level("pixels", level))

    def depth(self, level: int = 0) -> NDArray[np.float32]:
        """Read a level of a depth image.

        Args:
            level: The level; 0 is the finest.

        Returns:
            (h, w) float32, in metres; 0 is invalid.

        Raises:
            NotFoundError: There is no such level, or the frame is an error row.
            InvalidTypeError: The frame is not of kind depth.
        """
        self._shape_of("depth")
        return self._level("pixels", level)[..., 0]

    def ids(self, level: int = 0) -> NDArray[Any]:
        """Read a level of a segmentation image.

        Args:
            level: The level; 0 is the finest.

        Returns:
            (h, w) class ids, uint8 or uint16.

        Raises:
            NotFoundError: There is no such level, or the frame is an error row.
            InvalidTypeError: The frame is not of kind segmentation.
        """
        self._shape_of("segmentation")
        return self._level("ids", level)[..., 0]

    def colors(self, level: int = 0) -> NDArray[np.uint8]:
        """Read a level of a segmentation image in the colors of the annotation context that holds for it.

        Args:
            level: The level; 0 is the finest.

        Returns:
            (h, w, 4) uint8 sRGB with straight alpha.

        Raises:
            NotFoundError: There is no such level, or the frame is an error row.
            InvalidTypeError: The frame is not of kind segmentation.
        """
        self._shape_of("segmentation")
        context = self._find_context(self)
        if self.palette_hash == context.palette_hash:
            return self._level("colors", level)
        return ids_to_rgba8(self.ids(level), context)

    def points(self) -> PointCloud:
        """Read a cloud.

        Returns:
            All its points, in the order in which they were logged.

        Raises:
            NotFoundError: The frame is an error row.
            InvalidTypeError: The frame is not of kind points.
        """
        shape = self._shape_of("points")
        columns = StoredColumns(self._tiles, shape)
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
        """Return exactly what was logged.

        Returns:
            For images, depth and segmentation an array of the logged shape and dtype; for an image file its bytes
            (JPEG) or its pixels (PNG). For points the columns as given, by their names in `log_points`. For annotation
            contexts, extension components and clears their JSON, parsed.

        Raises:
            SourceNotKeptError: It was logged with keep_source=False, and the tiles do not hold it exactly.
            CorruptStoreError: The stored bytes are not those of such a value.
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
            raise SourceNotKeptError(
                f"{self.entity_path!r} was logged with keep_source=False: its source is not stored"
            )
        return self._from_tiles(dtype, shape)

    def _from_tiles(self, dtype: str, shape: Sequence[int]) -> Any:
        """Return what was logged, which the tiles hold exactly; `dtype`, `shape`: as they were logged."""
        if self.kind == "points":
            return self._columns_as_given(dtype, shape)
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
        """Return a level, or one tile of it, as a picture to look at.

        Depth takes the colors of turbo, from the least to the greatest depth of the coarsest level, so that tiles and
        levels agree; invalid depths are transparent.

        Args:
            level: The level; 0 is the finest.
            tile: The (x, y) of one tile; None: the whole level.

        Returns:
            (h, w, 4) uint8 sRGB with straight alpha.

        Raises:
            NotFoundError: There is no such level or tile, or the frame is an error row.
            InvalidTypeError: The frame is not an image, depth or segmentation.
        """
        kind = self.kind
        self._shape_of(kind)
        if kind not in RASTER:
            raise InvalidTypeError(f"the frame must be an image, depth or segmentation for this, not {kind!r}")
        plane = FIRST_PLANES[kind]
        texels = self._level(plane, level) if tile is None else self.tile(level=level, x=tile[0], y=tile[1])
        if kind == "segmentation":
            return ids_to_rgba8(texels[..., 0], self._find_context(self))
        if kind == "depth":
            return depth_to_rgba8(texels[..., 0], self.depth(len(self.levels) - 1))
        return image_to_rgba8(texels)

    @cached_property
    def _tiles(self) -> FrameTiles:
        return self._open_tiles(self)

    def _shape_of(self, kind: Kind) -> tuple[int, ...]:
        """Return the shape, where the frame is of `kind` and not an error row."""
        if self.kind != kind:
            raise InvalidTypeError(f"the frame must be of kind {kind!r} for this, not {self.kind!r}")
        if self.shape is None:
            raise NotFoundError(f"{self.entity_path!r} logged no {kind} here: {self.error}")
        return self.shape

    def _plane_format(self, plane: str) -> str:
        """Return the format of the texels of a raster plane."""
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

    def _columns_as_given(self, dtype: str, shape: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the columns of a cloud that its planes hold exactly; `dtype`, `shape`: of its positions."""
        columns = StoredColumns(self._tiles, self._shape_of("points"))
        given = self._json(self._get("body") or "{}")
        found = {}
        try:
            for name, (kind, sides) in {"positions": (dtype, shape), **given}.items():
                stored = columns.numbers("position" if name == "positions" else COLUMN_PLANES[name])
                if stored is None:
                    raise self.corrupt(f"column {name!r} has no plane")
                found[name] = (
                    stored.astype(kind).reshape(sides) if name == "positions" else column_as_given(stored, kind, sides)
                )
        except (KeyError, TypeError, ValueError) as e:
            raise self.corrupt(f"columns {given!r:.200}: {e!r}") from e
        return found

    def _positions(self, columns: StoredColumns) -> NDArray[Any]:
        count, dimensions = self._shape_of("points")
        if self._get("source") == "plane":
            given = np.asarray(self.source().get("positions", ()))
            if given.size != count * dimensions:
                raise self.corrupt(f"source: {given.size} coordinates are not {count} points")
            return given.reshape(count, dimensions).astype(np.result_type(given, np.float32), copy=False)
        offsets = columns.numbers("position")
        if offsets is None:
            return np.zeros((0, dimensions), np.float32)
        if self._get("source") == "tiles":  # relative to zeros
            return offsets.astype(np.result_type(np.dtype(self._get("source_dtype")), np.float32), copy=False)
        positions: NDArray[np.float64] = np.asarray(self._get("point_origin"), np.float64) + offsets
        return positions
