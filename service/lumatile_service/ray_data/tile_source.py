"""The tiles of a recording as a Ray Data dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, InvalidValueError
from lumatile.format.point_planes import PLANES as POINT_PLANES
from lumatile.format.schema import FRAMES, TILES
from lumatile.read.frame import RASTER, Frame
from lumatile.read.frame_tiles import FrameTiles, StoredTile
from lumatile_service.ray_data.recording_source import RecordingSource
from lumatile_service.ray_data.snapshot import Part, Snapshot, names_of

OF_FRAME = ("entity_path", "kind", "log_time", "sequences", "times", "timeless", "producer", "seq")
"""Columns that come from the frames row."""

OF_TILE = ("plane", "level", "x", "y", "width", "height", "row_pitch")
"""Columns that come from the tiles row, as stored."""

PLANES = ("pixels", "ids", "colors", *POINT_PLANES, "label", "source_index", "source")

COLUMNS = (*OF_FRAME, *OF_TILE, "format", "payload", "error")

TILE_BYTES = 512
"""The approximate size of a row without its payload, in bytes."""

BLOCK_BYTES = 32 << 20
"""The approximate size of the payload in a block, in bytes."""


class TileSource(RecordingSource):
    """A Ray Data source of tiles.

    For example `ray.data.read_datasource(TileSource("runs", "run 1", planes="pixels", levels=0))`.

    A row is a tile with the columns of its frame: entity_path, kind, log_time, sequences, times, timeless, producer,
    seq; and its own: plane, level, x, y, width, height (texels), row_pitch (bytes). `payload` is its bytes,
    decompressed, ready for a texture of the WebGPU format `format`, which is null in planes of points and in `source`;
    see docs/store-format.md. `error` is the reason why a damaged tile has no payload, else null. A frame whose tiles
    cannot be found at all is one row without a plane.

    The source shows the tiles of frames that are committed when it is made, without those that a reader hides.
    Checksums are verified. The tiles of a frame follow each other; `dataset.select_columns([...])` without `payload`
    reads no payload.
    """

    def __init__(
        self,
        store: str | PathLike[str],
        recording_id: str,
        *,
        entities: str | Iterable[str] | None = None,
        planes: str | Iterable[str] | None = None,
        levels: int | Iterable[int] | None = None,
    ) -> None:
        """Choose the tiles of a recording.

        Args:
            store: The path or URL of the store; all machines of the cluster must see it.
            recording_id: The recording.
            entities: One or several entity paths whose tiles are read; None: all.
            planes: One or several planes that are read; None: all, including the plane `source`.
            levels: One or several levels that are read, 0 for the full resolution; None: all.

        Raises:
            NotFoundError: The recording or an entity does not exist.
            InvalidValueError: A plane or level is not one of the allowed values.
            StoreError: The store cannot be read.
        """
        self._planes = names_of(planes)
        if unknown := sorted(set(self._planes or ()) - set(PLANES)):
            raise InvalidValueError(f"planes must be among {PLANES}, not {unknown}")
        self._levels = (levels,) if isinstance(levels, int) else None if levels is None else tuple(levels)
        if wrong := [level for level in self._levels or () if not isinstance(level, int) or level < 0]:
            raise InvalidValueError(f"levels must be integers >= 0, not {wrong}")
        super().__init__(Snapshot(store, recording_id, entities=entities), COLUMNS)
        self._counts: NDArray[np.int64] = self._snapshot.table["tile_count"].to_numpy()

    def _weights(self) -> NDArray[np.float64]:
        """Return an equal share of the segments' size for each tile, as if all planes and levels were read."""
        payload = self._snapshot.nbytes / max(1, self._counts.sum()) if "payload" in self.columns else 0
        return self._counts.astype(np.float64) * (TILE_BYTES + payload)

    def _row_count(self, frames: slice) -> int | None:
        return int(self._counts[frames].sum()) if self._planes is None and self._levels is None else None

    def _reader(self, part: Part) -> Callable[[], Iterator[pa.Table]]:
        return partial(_read, part, self._planes, self._levels, self.columns)


def _read(
    part: Part, planes: Sequence[str] | None, levels: Sequence[int] | None, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the blocks of a part."""
    table, frames = part.read()
    rows: list[tuple[int, dict[str, Any]]] = []
    nbytes = 0
    for i, frame in enumerate(frames):
        for tile in _tiles(frame, planes, levels, "payload" in columns or "error" in columns):
            rows.append((i, tile))
            nbytes += TILE_BYTES + len(tile["payload"] or b"")
            if nbytes >= BLOCK_BYTES:
                yield _block(table, rows, columns)
                rows, nbytes = [], 0
    if rows:
        yield _block(table, rows, columns)


def _tiles(
    frame: Frame, planes: Sequence[str] | None, levels: Sequence[int] | None, payload: bool
) -> Iterator[dict[str, Any]]:
    """Yield the tiles of a frame, as the columns that do not come from its frames row."""
    if not frame.tile_count:
        return
    try:
        tiles = frame.stored_tiles()
    except CorruptStoreError as e:
        yield {**dict.fromkeys((*OF_TILE, "format", "payload")), "error": str(e)}
        return
    for plane in sorted(tiles.planes() if planes is None else tiles.planes() & set(planes)):
        for (_, level, x, y), tile in tiles.rows(plane):
            if levels is not None and level not in levels:
                continue
            content, error = _payload(tiles, tile) if payload else (None, None)
            yield {
                "plane": plane,
                "level": level,
                "x": x,
                "y": y,
                "width": tile.width,
                "height": tile.height,
                "row_pitch": tile.row_pitch,
                "format": _format(frame, plane),
                "payload": content,
                "error": error,
            }


def _payload(tiles: FrameTiles, tile: StoredTile) -> tuple[bytes | None, str | None]:
    try:
        return tiles.decoded(tile).tobytes(), None
    except CorruptStoreError as e:
        return None, str(e)


def _format(frame: Frame, plane: str) -> str | None:
    """Return the WebGPU name of the texels' format; None: the plane has no texels."""
    if frame.kind not in RASTER or plane == "source":
        return None
    return "rgba8unorm-srgb" if plane == "colors" else frame.format


def _block(table: pa.Table, rows: Sequence[tuple[int, dict[str, Any]]], columns: Sequence[str]) -> pa.Table:
    """Return a block of tiles, each with the number of its frame's row in `table`."""
    frames = table.take(pa.array([i for i, _ in rows], pa.int64()))
    types = {
        **{name: FRAMES.field(name).type for name in OF_FRAME},
        **{name: TILES.field(name).type for name in (*OF_TILE, "payload")},
        "format": pa.string(),
        "error": pa.string(),
    }
    return pa.table(
        {
            name: frames[name] if name in OF_FRAME else pa.array([tile[name] for _, tile in rows], types[name])
            for name in columns
        }
    )
