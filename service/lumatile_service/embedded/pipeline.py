"""From logged values to frames rows and tile rows: decode, convert, compress. No Ray, no Flight, no files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.format.point_planes import encode_source, source_rows
from lumatile.format.tile_rows import Codec, TileRows
from lumatile.settings import RecordingSettings
from lumatile.values import LoggedValue, PointColumns
from lumatile_kernels import Backend, TileBlock
from lumatile_kernels.layout import level_sizes
from lumatile_kernels.threads import Threads
from lumatile_service.embedded.clouds import SmallCloud, cloud_rows, small_cloud
from lumatile_service.embedded.compression import compress
from lumatile_service.embedded.contexts import KnownContexts
from lumatile_service.embedded.decoding import DecodedValue, ValueDecoder
from lumatile_service.embedded.frames_row import frames_row, logged_bytes
from lumatile_service.embedded.small_values import SMALL_POINTS, SmallFrames, SmallTiles

log = logging.getLogger(__name__)

IMAGE_FORMATS = {"linear": "rgba16float", "srgb8": "rgba8unorm-srgb", "rgba32float": "rgba32float"}
"""WebGPU's names of the tile formats."""

WHITE = np.full((SMALL_POINTS, 4), 255, np.uint8)
"""The color of points that have none, nor a class: of small clouds, which share it."""

EXACT_DEPTH_METERS = (1e-30, 1e30)
"""The range of `meter` in which float32 metres give integer depth back exactly."""


class Pipeline:
    """Turns values into rows: `decode`, then `convert`. May be used from several threads.

    Values are converted one step at a time, whatever thread asks: a backend is for one thread at a time.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        *,
        backend: Backend,
        contexts: KnownContexts | None = None,
        threads: int | None = None,
    ) -> None:
        """Prepare to convert with `backend`.

        `contexts`: the annotation contexts that segmentations and points are colored by; contexts among the values are
        added to it. Several pipelines may share one; None: an empty one.
        `threads`: the number of threads that decode, and that compress; None: one for each core.
        """
        if backend.pin is not None:
            POOL.pin_with(backend.pin)
        self.ahead_bytes = backend.ahead_bytes
        """Bytes of values worth converting before the rows of the first are taken."""
        self._settings = settings
        self._backend = backend
        self._contexts = contexts or KnownContexts()
        self._decoder = ValueDecoder(pixel_limit=settings.pixel_limit, device=backend.device, threads=threads)
        self._threads = Threads(threads, "lumatile-compress")
        self._lock = threading.Lock()
        """Held for each step of a conversion."""

    def decode(self, values: Sequence[LoggedValue]) -> list[DecodedValue]:
        """Decode the JPEG files among `values`, together; see `ValueDecoder.decode`."""
        return self._decoder.decode(values)

    def convert(self, decoded: DecodedValue) -> tuple[dict[str, Any], Iterator[TileRows]]:
        """Return the frames row of a value and an iterator that makes its tile rows.

        The row is complete once the tile rows are exhausted. Values may be converted ahead, in the order in which they
        were logged, before the tile rows of the first are taken: a GPU then processes them together. A value that
        cannot be converted becomes an error row.
        """
        row, tiles = self._convert(decoded)
        return row, map(self._compressed, tiles)

    def convert_small(self, numbered: Sequence[tuple[int, DecodedValue]]) -> SmallFrames:
        """Convert small values together, in the order in which they were logged; see `is_small`.

        Each comes with its number in the sink's queue. One that cannot be converted becomes an error row.
        """
        tiles = SmallTiles()
        started = [self._start_small(decoded) for _, decoded in numbered]
        for frame, (_, planes) in enumerate(started):
            if isinstance(planes, SmallCloud):
                tiles.add_cloud(frame, planes)
            else:
                for rows in planes:
                    tiles.add(frame, rows)
        return SmallFrames(
            numbers=[number for number, _ in numbered],
            values=[decoded.value for _, decoded in numbered],
            rows=[row for row, _ in started],
            tiles=tiles.rows(),
        )

    def _start_small(self, decoded: DecodedValue) -> tuple[dict[str, Any], SmallCloud | Iterator[TileRows]]:
        """Return the frames row of a small value, and its planes, or an iterator as that of `convert`."""
        value = decoded.value
        if value.points is not None and decoded.error is None:
            row = frames_row(value)
            try:
                with self._lock:
                    colors = self._point_colors(value, row)
                cloud = small_cloud(value.points, colors)
                if cloud is not None:
                    row.update(shape=value.points.positions.shape, levels=1, point_origin=cloud.origin, body=cloud.body)
                    if cloud.exact:
                        row["source"] = "tiles"
                    elif self._settings.keep_source:
                        row["source"] = "plane"
                        cloud.planes.append(("source", encode_source(value.points.source)))
                    return row, cloud
            except Exception:  # the general way finds it too, and makes an error row
                log.warning("%s at %r is converted by itself", value.kind, value.entity_path, exc_info=True)
        return self._convert(decoded)

    def _convert(self, decoded: DecodedValue) -> tuple[dict[str, Any], Iterator[TileRows]]:
        row = frames_row(decoded.value)
        row.update(decoder=decoded.decoder, error=decoded.error)
        with self._lock:
            try:
                tiles = self._start(decoded, row)
            except Exception as e:  # noqa: BLE001 - one value must not end the others
                tiles = self._failed(decoded, row, e)
        return row, self._stepwise(self._guarded(tiles, decoded, row))

    def remember(self, context: LoggedValue) -> None:
        """Color later values by an annotation context, without storing it."""
        with self._lock:
            self._contexts.add(context)

    def _stepwise(self, tiles: Iterator[TileRows]) -> Iterator[TileRows]:
        """Give the rows of `tiles`; each is made while the lock is held."""
        while True:
            with self._lock:
                rows = next(tiles, None)
            if rows is None:
                return
            yield rows
            del rows

    def _guarded(self, tiles: Iterator[TileRows], decoded: DecodedValue, row: dict[str, Any]) -> Iterator[TileRows]:
        source_begun = False
        logged: Iterator[TileRows] = iter(())
        try:
            for rows in tiles:
                source_begun = rows.plane == "source"
                yield rows
                del rows
        except Exception as e:  # noqa: BLE001 - one value must not end the others
            logged = self._failed(decoded, row, e)
            if source_begun:  # its parts cannot begin twice
                row["source"], logged = "none", iter(())
        yield from logged

    def _failed(self, decoded: DecodedValue, row: dict[str, Any], error: Exception) -> Iterator[TileRows]:
        """Make `row` an error row, and return the logged bytes as source rows: the value may be acknowledged."""
        value = decoded.value
        log.error("%s at %r could not be converted", value.kind, value.entity_path, exc_info=error)
        row.update(dict.fromkeys(("shape", "tile_format", "levels", "point_origin", "palette_hash")), source="none")
        row["error"] = f"could not be converted: {type(error).__name__}: {error}"
        try:
            data = logged_bytes(value)
        except Exception as e:  # noqa: BLE001 - for example on a lost device
            log.error("the logged bytes are lost: %s", e)  # noqa: TRY400 - the traceback has been logged
            return iter(())
        row["source"] = "none" if data is None else "plane"
        return iter(()) if data is None else source_rows(data)

    def _start(self, decoded: DecodedValue, row: dict[str, Any]) -> Iterator[TileRows]:
        """Start the conversion of a value; later steps read only the arrays that its rows are made from."""
        value = decoded.value
        if decoded.error is not None:
            if value.encoded is None or not self._settings.keep_source:
                return iter(())
            row["source"] = "plane"
            return source_rows(np.frombuffer(value.encoded, np.uint8))
        if value.kind == "annotation_context":
            self._contexts.add(value)
        elif value.kind == "points" and value.points is not None:
            return self._points(value, row)
        elif decoded.array is not None:
            return self._raster(value, self._backend.admit(decoded.array, POOL.take), row)
        return iter(())

    def _raster(self, value: LoggedValue, array: Any, row: dict[str, Any]) -> Iterator[TileRows]:
        row["shape"] = array.shape
        row["levels"] = len(level_sizes(*array.shape[:2]))
        start = {"image": self._image, "depth": self._depth, "segmentation": self._segmentation}[value.kind]
        blocks = start(value, array, row)
        if row["source"] == "none" and self._settings.keep_source:
            row["source"] = "plane"
        return self._raster_rows(value, array, row, blocks)

    def _raster_rows(
        self, value: LoggedValue, array: Any, row: dict[str, Any], blocks: Iterator[TileBlock]
    ) -> Iterator[TileRows]:
        for block in blocks:
            yield self._rows(block)
        if row["source"] == "plane":
            if value.encoded is not None:
                source = np.frombuffer(value.encoded, np.uint8)
            else:
                source = array if isinstance(array, np.ndarray) else array.host(POOL.take)
            yield from source_rows(source.reshape(-1).view(np.uint8))

    def _image(self, value: LoggedValue, image: Any, row: dict[str, Any]) -> Iterator[TileBlock]:
        tile_format = self._settings.tile_format
        row["tile_format"] = IMAGE_FORMATS[tile_format]
        if (
            value.encoded is None
            and image.dtype == np.uint8
            and tile_format in ("linear", "srgb8")
            and (image.shape[2] != 4 or self._backend.is_opaque(image))
        ):
            row["source"] = "tiles"
        return self._backend.image(image, tile_format=tile_format, allocate=POOL.take)

    def _depth(self, value: LoggedValue, depth: Any, row: dict[str, Any]) -> Iterator[TileBlock]:
        assert value.meter is not None  # noqa: S101 - the border sees to it
        row["tile_format"] = "r32float"
        low, high = EXACT_DEPTH_METERS
        if depth.dtype.kind == "u" and low <= value.meter <= high:
            row["source"] = "tiles"
        return self._backend.depth(depth, meter=value.meter, allocate=POOL.take)

    def _segmentation(self, value: LoggedValue, ids: Any, row: dict[str, Any]) -> Iterator[TileBlock]:
        if not isinstance(value.array, np.ndarray) and value.array is not None:
            value.array.check_ids()
        context = self._contexts.nearest(value.entity_path)
        row["tile_format"] = "r8uint" if ids.dtype == np.uint8 else "r16uint"
        row["source"] = "tiles"
        row["palette_hash"] = context.palette_hash
        palette = context.palette(256 if ids.dtype == np.uint8 else 65536)
        return self._backend.segmentation(ids, palette=palette, allocate=POOL.take)

    def _points(self, value: LoggedValue, row: dict[str, Any]) -> Iterator[TileRows]:
        points = value.points
        assert points is not None  # noqa: S101 - the caller has looked
        return self._point_rows(points, self._point_colors(value, row), row)

    def _point_colors(self, value: LoggedValue, row: dict[str, Any]) -> NDArray[np.uint8]:
        """Return the colors that the points are drawn in, (N, 4) uint8 sRGB: those given, else those of the classes."""
        points = value.points
        assert points is not None  # noqa: S101 - the caller has looked
        if points.colors is not None:
            return points.colors
        if points.class_ids is None:
            return WHITE[: len(points)] if len(points) <= len(WHITE) else np.full((len(points), 4), 255, np.uint8)
        context = self._contexts.nearest(value.entity_path)
        row["palette_hash"] = context.palette_hash
        return context.point_colors(points.class_ids, points.keypoint_ids)

    def _point_rows(self, points: PointColumns, colors: NDArray[np.uint8], row: dict[str, Any]) -> Iterator[TileRows]:
        yield from cloud_rows(points, colors, row, self._backend)
        if self._settings.keep_source:
            row["source"] = "plane"
            yield from source_rows(encode_source(points.source))

    def _rows(self, block: TileBlock) -> TileRows:
        """Return the tile rows of a block."""
        tiles = block.tiles
        return TileRows(
            plane=block.plane,
            codec="raw",
            level=tiles.level,
            x=tiles.x,
            y=tiles.y,
            width=tiles.width,
            height=tiles.height,
            row_pitch=tiles.row_pitch,
            raw_size=tiles.size,
            offsets=np.append(tiles.offset, block.payload.nbytes),
            payload=block.payload,
            value_range=block.value_range,
        )

    def _compressed(self, rows: TileRows) -> TileRows:
        """Return raw rows, compressed as the settings or their plane say."""
        by_plane: Codec = "lz4" if rows.plane in ("ids", "colors") else "raw"
        return compress(rows, self._settings.compression or by_plane, self._threads)
