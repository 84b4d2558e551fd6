"""The stored tiles of one frame: found in its tiles file, checked, decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from crc32c import crc32c
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, NotFoundError
from lumatile.format.tiles_reader import PayloadReader, TilesReader, Where
from lumatile_kernels.layout import TILE, level_sizes

TEXELS: dict[str, tuple[str, int]] = {
    "rgba16float": ("<f2", 4),
    "rgba8unorm-srgb": ("u1", 4),
    "rgba32float": ("<f4", 4),
    "r32float": ("<f4", 1),
    "r8uint": ("u1", 1),
    "r16uint": ("<u2", 1),
}
"""The dtype and channels of each tile format, by its WebGPU name."""

Key = tuple[str, int, int, int]
"""The plane, level, x and y of a tile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTile:
    """One row of a tiles file."""

    key: Key
    where: Where
    """The location of its stored bytes, for the reader that found it."""
    codec: str
    width: int
    height: int
    row_pitch: int
    """The bytes from one row of texels to the next."""
    raw_size: int
    """The size of the decoded bytes."""
    crc32c: int
    """The CRC32C of the stored bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundTiles:
    """The tiles rows of one frame, and the tiles file that they were found in."""

    reader: PayloadReader
    frame: int
    """The row of the frame in the segment's frames file."""
    tiles: Mapping[Key, StoredTile]
    """In stored order."""

    def corrupt(self, what: str) -> CorruptStoreError:
        """Return the error that says what is wrong with this frame."""
        return CorruptStoreError(f"{self}: {what}")

    def __str__(self) -> str:
        """Return the file and the row, for messages."""
        return f"{self.reader.path}: frame row {self.frame}"


def find_tiles(reader: TilesReader, frame: int, tile_count: int) -> FoundTiles:
    """Find the rows of frame row `frame`. Raises CorruptStoreError where they are not `tile_count`."""
    tiles: dict[Key, StoredTile] = {}
    for index, where in reader.rows_of_frame(frame) if tile_count else ():
        for n, row in enumerate(index.tolist()):
            plane, codec, level, x, y, width, height, pitch, raw_size, _, _, _, checksum = row
            key = plane.decode(), level, x, y
            tiles[key] = StoredTile(
                key=key,
                where=where[n],
                codec=codec.decode(),
                width=width,
                height=height,
                row_pitch=pitch,
                raw_size=raw_size,
                crc32c=checksum,
            )
    found = FoundTiles(reader=reader.payload_reader, frame=frame, tiles=tiles)
    if len(tiles) != tile_count:
        raise found.corrupt(f"must have {tile_count} different tiles rows, not {len(tiles)}")
    return found


class FrameTiles:
    """The stored tiles of one frame: read, checked where that is asked for, and decoded. Threads may share it."""

    def __init__(
        self, found: FoundTiles, find_again: Callable[[], FoundTiles] | None = None, *, checks: bool = False
    ) -> None:
        """Read the tiles at `found`.

        `find_again`: finds them where a merge has moved them, after the file turned out to be gone. `checks`: compare
        the checksum of all that is read.
        """
        self._found = found
        """The tiles at their present location, replaced as one."""
        self._find_again = find_again
        self._checks = checks

    def corrupt(self, what: str) -> CorruptStoreError:
        """Return the error that says what is wrong with this frame."""
        return self._found.corrupt(what)

    def planes(self) -> set[str]:
        """Return the planes that have rows."""
        return {plane for plane, *_ in self._found.tiles}

    def rows(self, plane: str) -> list[tuple[Key, StoredTile]]:
        """Return all rows of a plane, in stored order."""
        return [(key, tile) for key, tile in self._found.tiles.items() if key[0] == plane]

    def stored(self, key: Key) -> StoredTile:
        """Return one row. Raises NotFoundError."""
        found = self._found
        try:
            return found.tiles[key]
        except KeyError:
            plane, level, x, y = key
            raise NotFoundError(f"{found}: no tile level={level}, x={x}, y={y} in plane {plane!r}") from None

    def checking(self) -> FrameTiles:
        """Return the same tiles, whose methods compare the checksum of all that they read (CorruptStoreError)."""
        return FrameTiles(self._found, self._find_again, checks=True)

    def check(self, key: Key) -> None:
        """Compare the checksum of a row. Raises NotFoundError, CorruptStoreError."""
        tile = self.stored(key)
        self._compare(tile, self._read(tile))

    def _compare(self, tile: StoredTile, data: NDArray[np.uint8]) -> None:
        if crc32c(data) != tile.crc32c:
            raise self.corrupt(f"tile {tile.key} has other bytes than were written")

    def decoded(self, tile: StoredTile) -> NDArray[np.uint8]:
        """Return the decoded bytes, (raw_size,), read-only; a view of a mapped file, if the codec is raw.

        Raises CorruptStoreError.
        """
        return self._decode(tile, self._read(tile))

    def _read(self, tile: StoredTile) -> NDArray[np.uint8]:
        return self._payloads([tile])[0]

    def _payloads(self, tiles: Sequence[StoredTile]) -> list[NDArray[np.uint8]]:
        try:
            return self._payloads_now(tiles)
        except FileNotFoundError:
            if self._find_again is None:
                raise
            self._found = self._find_again()
        return self._payloads_now(tiles)

    def _payloads_now(self, tiles: Sequence[StoredTile]) -> list[NDArray[np.uint8]]:
        found = self._found
        payloads = found.reader.payloads([found.tiles[tile.key].where for tile in tiles])
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
        """Return the texels of a raster tile, (h, w, channels), read-only. Raises NotFoundError, CorruptStoreError."""
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
            raise self.corrupt(f"tile {key}: its width, height, row pitch and size do not fit each other")
        return np.ndarray(
            (tile.height, tile.width, channels),
            dtype,
            self._decode(tile, data),
            0,
            (tile.row_pitch, texel, texel // channels),
        )

    def level(self, plane: str, level: int, shape: tuple[int, ...], tile_format: str) -> NDArray[Any]:
        """Put all tiles of a level together: (h, w, channels). Raises NotFoundError, CorruptStoreError.

        `shape`: the shape of the frame, which begins with (height, width).
        """
        height, width = level_sizes(shape[0], shape[1])[level]
        across, down = -(-width // TILE), -(-height // TILE)
        if across * down > len(self._found.tiles):
            raise self.corrupt(f"level {level} of plane {plane!r} must have {across * down} tiles")
        dtype, channels = TEXELS[tile_format]
        whole = np.empty((height, width, channels), dtype)
        for y in range(down):
            keys = [(plane, level, x, y) for x in range(across)]
            tiles = [self.stored(key) for key in keys]
            payloads = self._payloads(tiles)  # a row of tiles at once: each request may take a round trip
            for x, (key, tile, data) in enumerate(zip(keys, tiles, payloads, strict=True)):
                part = whole[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
                texels = self._shaped(key, tile, data, tile_format)
                if texels.shape != part.shape:
                    raise self.corrupt(f"tile {key} must be {part.shape}, not {texels.shape}")
                part[:] = texels
        return whole

    def joined(self, plane: str) -> NDArray[np.uint8]:
        """Return the bytes of a plane that is stored in parts, (n,). Raises CorruptStoreError."""
        rows = sorted(self.rows(plane), key=lambda row: row[0])
        if [key for key, _ in rows] != [(plane, 0, 0, part) for part in range(len(rows))]:
            raise self.corrupt(f"parts of plane {plane!r} are missing")
        parts = [self.decoded(tile) for _, tile in rows]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
