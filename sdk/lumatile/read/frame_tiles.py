"""The stored pieces of one frame: found in its tiles file, checked, decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, NotFoundError
from lumatile.format.tiles_reader import TilesReader, Where
from lumatile_kernels.layout import TILE, level_sizes

TEXELS: dict[str, tuple[str, int]] = {
    "rgba16float": ("<f2", 4),
    "rgba8unorm-srgb": ("u1", 4),
    "rgba32float": ("<f4", 4),
    "r32float": ("<f4", 1),
    "r8uint": ("u1", 1),
    "r16uint": ("<u2", 1),
}
"""dtype and channels of the tile formats, by their WebGPU names."""

Key = tuple[str, int, int, int]
"""plane, level, x, y."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTile:
    """One row of a tiles file."""

    key: Key
    where: Where
    """Its stored bytes are, for the reader that found it."""
    codec: str
    width: int
    height: int
    row_pitch: int
    """Bytes."""
    raw_size: int
    """Bytes once decoded."""
    crc32c: int
    """Of the stored bytes."""


class FrameTiles:
    """All rows of one frame, by plane, level and place."""

    def __init__(
        self, reader: TilesReader, frame: int, tile_count: int, find_again: Callable[[], FrameTiles] | None = None
    ) -> None:
        """Find the rows of frame row `frame`. Raises CorruptStoreError where they are not `tile_count`.

        `find_again`: where they are now, if the file turns out to be gone: a merge has moved them.
        """
        self._find_again = find_again
        self._checks = False
        self._where = f"{reader.path}: frame row {frame}"
        self._tiles: dict[Key, StoredTile] = {}
        for rows, checksums, where in reader.rows_of_frame(frame) if tile_count else ():
            columns = (rows.level, rows.x, rows.y, rows.width, rows.height, rows.row_pitch, rows.raw_size, checksums)
            for n, (level, x, y, width, height, pitch, raw_size, checksum) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True)
            ):
                key = rows.plane, level, x, y
                self._tiles[key] = StoredTile(
                    key=key,
                    where=where[n],
                    codec=rows.codec,
                    width=width,
                    height=height,
                    row_pitch=pitch,
                    raw_size=raw_size,
                    crc32c=checksum,
                )
        self._now = reader, self._tiles
        """Where the bytes are now, replaced as one: threads may share a frame."""
        if len(self._tiles) != tile_count:
            raise self.corrupt(f"must have {tile_count} different tiles rows, not {len(self._tiles)}")

    def corrupt(self, what: str) -> CorruptStoreError:
        """The error that says what is wrong with this frame."""
        return CorruptStoreError(f"{self._where}: {what}")

    def planes(self) -> set[str]:
        """The planes that have rows."""
        return {plane for plane, *_ in self._tiles}

    def rows(self, plane: str) -> list[tuple[Key, StoredTile]]:
        """All rows of a plane, in stored order."""
        return [(key, tile) for key, tile in self._tiles.items() if key[0] == plane]

    def stored(self, key: Key) -> StoredTile:
        """One row. Raises NotFoundError."""
        try:
            return self._tiles[key]
        except KeyError:
            plane, level, x, y = key
            raise NotFoundError(f"{self._where}: no tile level={level}, x={x}, y={y} in plane {plane!r}") from None

    def checking(self) -> FrameTiles:
        """Itself; from now on it compares the checksum of all that it reads. Raises CorruptStoreError there."""
        self._checks = True
        return self

    def check(self, key: Key) -> None:
        """Compare a row's checksum. Raises CorruptStoreError."""
        tile = self.stored(key)
        self._compare(tile, self._read(tile))

    def _compare(self, tile: StoredTile, data: NDArray[np.uint8]) -> None:
        if crc32c(data) != tile.crc32c:
            raise self.corrupt(f"tile {tile.key} has other bytes than were written")

    def decoded(self, tile: StoredTile) -> NDArray[np.uint8]:
        """(raw_size,) read-only: the stored bytes (a view, if mapped) if the codec is raw. Raises CorruptStoreError."""
        return self._decode(tile, self._read(tile))

    def _read(self, tile: StoredTile) -> NDArray[np.uint8]:
        return self._payloads([tile])[0]

    def _payloads(self, tiles: Sequence[StoredTile]) -> list[NDArray[np.uint8]]:
        try:
            return self._payloads_now(tiles)
        except FileNotFoundError:
            if self._find_again is None:
                raise
            found = self._find_again()
        self._now, self._where = found._now, found._where  # noqa: SLF001 - its own kind
        return self._payloads_now(tiles)

    def _payloads_now(self, tiles: Sequence[StoredTile]) -> list[NDArray[np.uint8]]:
        reader, rows = self._now
        payloads = reader.payloads([rows[tile.key].where for tile in tiles])
        if self._checks:
            for tile, data in zip(tiles, payloads, strict=True):
                self._compare(tile, data)
        return payloads

    def _decode(self, tile: StoredTile, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if tile.codec != "raw":
            try:
                buffer = pa.Codec(tile.codec).decompress(pa.py_buffer(data), tile.raw_size)
            except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as e:
                raise self.corrupt(f"codec {tile.codec!r}: {e}") from e
            data = np.frombuffer(buffer, np.uint8)
            data.flags.writeable = False
        if len(data) != tile.raw_size:
            raise self.corrupt(f"a tile must have {tile.raw_size} bytes, not {len(data)}")
        return data

    def texels(self, key: Key, tile_format: str) -> NDArray[Any]:
        """(h, w, channels) read-only view of a raster tile. Raises NotFoundError, CorruptStoreError."""
        tile = self.stored(key)
        return self._shaped(key, tile, self._read(tile), tile_format)

    def _shaped(self, key: Key, tile: StoredTile, data: NDArray[np.uint8], tile_format: str) -> NDArray[Any]:
        dtype, channels = TEXELS[tile_format]
        texel = np.dtype(dtype).itemsize * channels
        if (
            not 0 < tile.width <= TILE
            or not 0 < tile.height <= TILE
            or tile.row_pitch < tile.width * texel
            or tile.raw_size != tile.height * tile.row_pitch
        ):
            raise self.corrupt(f"tile {key}: its sizes don't fit each other")
        return np.ndarray(
            (tile.height, tile.width, channels),
            dtype,
            self._decode(tile, data),
            0,
            (tile.row_pitch, texel, texel // channels),
        )

    def level(self, plane: str, level: int, shape: tuple[int, ...], tile_format: str) -> NDArray[Any]:
        """(h, w, channels): all tiles of a level put together. Raises NotFoundError, CorruptStoreError.

        `shape`: of the frame; it begins with (height, width).
        """
        height, width = level_sizes(shape[0], shape[1])[level]
        across, down = -(-width // TILE), -(-height // TILE)
        if across * down > len(self._tiles):
            raise self.corrupt(f"level {level} of plane {plane!r} must have {across * down} tiles")
        dtype, channels = TEXELS[tile_format]
        whole = np.empty((height, width, channels), dtype)
        for y in range(down):
            keys = [(plane, level, x, y) for x in range(across)]
            tiles = [self.stored(key) for key in keys]
            payloads = self._payloads(tiles)  # a row at once: they may be far away
            for x, (key, tile, data) in enumerate(zip(keys, tiles, payloads, strict=True)):
                part = whole[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
                texels = self._shaped(key, tile, data, tile_format)
                if texels.shape != part.shape:
                    raise self.corrupt(f"tile {key} must be {part.shape}, not {texels.shape}")
                part[:] = texels
        return whole

    def joined(self, plane: str) -> NDArray[np.uint8]:
        """(n,): the bytes of a plane of parts, one after another."""
        rows = sorted(self.rows(plane), key=lambda row: row[0])
        if [key for key, _ in rows] != [(plane, 0, 0, part) for part in range(len(rows))]:
            raise self.corrupt(f"plane {plane!r} misses parts")
        parts = [self.decoded(tile) for _, tile in rows]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
