"""Encoding a cloud's columns as the bytes of its tiles rows, and decoding them.

Points are stored in chunks of at most 65,536: row (plane, level, x) holds one column of chunk x of a level, so
that a viewer fetches only the columns that it draws. Where these planes do not give back exactly what was logged, the
columns as they were given are stored too (`encode_source`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import CorruptStoreError, InvalidTypeError
from lumatile.format.arrow_arrays import numbers_of
from lumatile.format.tile_rows import TileRows

CHUNK = 65_536
"""The most points of a chunk."""

SOURCE_PART = 64 << 20
"""The size of the rows of a source plane, in bytes; the last one may be shorter."""

PLANES: Mapping[str, tuple[str, int]] = {
    "position": ("<f4", 0),
    "color": ("u1", 4),
    "radius": ("<f4", 1),
    "class_id": ("<u2", 1),
    "keypoint_id": ("<u2", 1),
    "identifier": ("<u8", 1),
}
"""The dtype of each plane of numbers, and its components a point; positions have as many as dimensions.

The two other planes: `label` (strings) and `source_index` (uint32, or uint64 in a cloud of more than 2^32 points)."""

COLUMN_PLANES: Mapping[str, str] = {
    "colors": "color",
    "radii": "radius",
    "class_ids": "class_id",
    "keypoint_ids": "keypoint_id",
    "identifiers": "identifier",
}
"""The plane of each column of numbers but the positions, by its name in `log_points`."""


def column_as_given(column: NDArray[Any], dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return a column, (N,) or (N, 4) colors, with the dtype and shape that it was given in.

    A column that was given once for all points has the values of the first, and colors may be without alpha.
    Raises ValueError where the shape does not fit.
    """
    count = math.prod(shape)
    if column.ndim == 2:
        column = column[:, : 3 if shape and shape[-1] == 3 else 4]
    return column.reshape(-1)[:count].astype(dtype).reshape(shape)


def encode_numbers(plane: str, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode one chunk of `plane`, (n,) or (n, components): in the plane's dtype and C order, without padding."""
    dtype = values.dtype if plane == "source_index" else np.dtype(PLANES[plane][0])
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)


def encode_labels(labels: Sequence[str | None]) -> NDArray[np.uint8]:
    """Encode one chunk of labels.

    The bytes are n+1 uint32 offsets into the text, n bytes that are 1 where there is a label and 0 where it is None,
    then the text in UTF-8. Raises InvalidTypeError for a text of 4 GiB or more.
    """
    texts = [b"" if label is None else label.encode() for label in labels]
    offsets = np.zeros(len(texts) + 1, np.uint64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    if offsets[-1] >= 2**32:
        raise InvalidTypeError(f"the labels of {CHUNK} points must be less than 4 GiB, not {offsets[-1]} bytes")
    present = np.array([label is not None for label in labels], np.uint8)
    return np.frombuffer(b"".join((offsets.astype("<u4").tobytes(), present.tobytes(), *texts)), np.uint8)


def point_rows(plane: str, values: NDArray[Any] | Sequence[str | None], counts: Sequence[int]) -> TileRows:
    """Make the tiles rows of one column of a cloud.

    `values`: one entry a point (labels: strings), in stored order, coarsest level first. `counts`: the number of
    points of level 0, 1 ... k.
    """
    chunks = [
        (level, x, min(CHUNK, counts[level] - start))
        for level in reversed(range(len(counts)))
        for x, start in enumerate(range(0, counts[level], CHUNK))
    ]
    level, x, points = np.array(chunks, np.int32).reshape(-1, 3).T
    if isinstance(values, np.ndarray):
        payload = encode_numbers(plane, values)
        sizes = points.astype(np.int64) * (payload.nbytes // max(len(values), 1))
    else:
        bounds = np.concatenate([[0], np.cumsum(points)]).tolist()
        parts = [encode_labels(values[a:b]) for a, b in pairwise(bounds)]
        payload = np.concatenate([np.zeros(0, np.uint8), *parts])
        sizes = np.array([part.nbytes for part in parts], np.int64)
    return TileRows(
        plane=plane,
        codec="raw",
        level=level,
        x=x,
        y=np.zeros_like(level),
        width=points,
        height=np.ones_like(level),
        row_pitch=sizes,
        raw_size=sizes,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        payload=payload,
    )


def source_rows(data: NDArray[np.uint8]) -> Iterator[TileRows]:
    """Make the tiles rows of a source plane: one for each SOURCE_PART of `data`. Their payloads are views of it."""
    zero = np.zeros(1, np.int32)
    for part, start in enumerate(range(0, data.nbytes, SOURCE_PART)):
        payload = data[start : start + SOURCE_PART]
        size = np.array([payload.nbytes], np.int64)
        yield TileRows(
            plane="source",
            codec="raw",
            level=zero,
            x=zero,
            y=zero + np.int32(part),
            width=zero,
            height=zero,
            row_pitch=size,
            raw_size=size,
            offsets=np.append(0, size),
            payload=payload,
        )


def decode_numbers(plane: str, data: NDArray[np.uint8], count: int, dimensions: int) -> NDArray[Any]:
    """Decode one chunk, as a view of `data`: (count,), or (count, components) for positions and colors.

    Raises CorruptStoreError where `data` does not hold `count` points.
    """
    if plane == "source_index":
        dtype, components = np.dtype("<u8" if count and len(data) // count == 8 else "<u4"), 1
    else:
        dtype, components = np.dtype(PLANES[plane][0]), PLANES[plane][1] or dimensions
    if len(data) != count * components * dtype.itemsize:
        raise CorruptStoreError(f"plane {plane!r}: {len(data)} bytes are not {count} points")
    values = data.view(dtype)
    return values.reshape(count, components) if plane in ("position", "color") else values


def decode_labels(data: NDArray[np.uint8], count: int) -> list[str | None]:
    """Decode the labels of one chunk. Raises CorruptStoreError where `data` does not hold `count` labels."""
    head = 4 * (count + 1)
    if len(data) < head + count:
        raise CorruptStoreError(f"plane 'label': {len(data)} bytes are not {count} labels")
    offsets = data[:head].view("<u4").astype(np.int64)
    present = data[head : head + count]
    text = data[head + count :].tobytes()
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(text):
        raise CorruptStoreError("plane 'label': offsets outside the text")
    bounds = offsets.tolist()
    try:
        return [text[bounds[i] : bounds[i + 1]].decode() if present[i] else None for i in range(count)]
    except UnicodeDecodeError as e:
        raise CorruptStoreError(f"plane 'label': {e}") from e


def encode_source(columns: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Encode the source plane of a cloud: its columns as given. See docs/store-format.md.

    The bytes are one line of JSON, which says what each column is, then the arrays in C order and little-endian, each
    at a multiple of 8 bytes. An array that appears twice is stored once. Raises InvalidTypeError for a value that is
    neither an array of numbers nor JSON.
    """
    head: dict[str, Any] = {}
    names: dict[int, str] = {}
    arrays: list[NDArray[Any]] = []
    for name, value in columns.items():
        if not (isinstance(value, np.ndarray) and value.dtype.kind in "biuf"):
            head[name] = {"value": value}
        elif id(value) in names:
            head[name] = {"same": names[id(value)]}
        else:
            head[name] = {"dtype": value.dtype.name, "shape": value.shape}
            names[id(value)] = name
            arrays.append(np.ascontiguousarray(value, value.dtype.newbyteorder("<")))
    try:
        line = json.dumps(head, separators=(",", ":")).encode()
    except (TypeError, ValueError) as e:
        raise InvalidTypeError(f"columns of points must be arrays of numbers, or JSON: {e}") from e
    parts: list[Any] = [line, bytes(-(len(line) + 1) % 8).replace(b"\0", b" "), b"\n"]
    for array in arrays:
        parts += [array.data, bytes(-array.nbytes % 8)] if array.size else []
    return np.frombuffer(b"".join(parts), np.uint8)


def decode_source(data: NDArray[np.uint8]) -> dict[str, Any]:
    """Decode the columns that `encode_source` was given: arrays in native byte order, other values as they were.

    Raises CorruptStoreError where `data` is not of that form, nor of that of format version 1, an Arrow stream.
    """
    try:
        return _decode_columns(data) if data[:1].tobytes() == b"{" else _decode_stream(data)
    except (pa.ArrowException, StopIteration, IndexError, KeyError, TypeError, ValueError, OSError) as e:
        raise CorruptStoreError(f"the source plane of a cloud does not hold its columns: {e}") from e


def _decode_columns(data: NDArray[np.uint8]) -> dict[str, Any]:
    end = _first_line(data)
    columns: dict[str, Any] = {}
    for name, entry in json.loads(data[:end].tobytes()).items():
        if "dtype" not in entry:
            columns[name] = columns[entry["same"]] if "same" in entry else entry["value"]
            continue
        dtype, shape = np.dtype(entry["dtype"]).newbyteorder("<"), entry["shape"]
        array = np.frombuffer(data, dtype, math.prod(shape), end).reshape(shape)
        end += -(-array.nbytes // 8) * 8
        columns[name] = np.require(array.astype(dtype.newbyteorder("="), copy=False), requirements="A")
    if end != len(data):
        raise ValueError(f"{len(data)} bytes are not {end}")
    return columns


def _first_line(data: NDArray[np.uint8]) -> int:
    """Return the size of the first line of `data`, in bytes. Raises ValueError where there is none."""
    for start in range(0, len(data), 1 << 16):
        found = data[start : start + (1 << 16)].tobytes().find(b"\n")
        if found >= 0:
            return start + found + 1
    raise ValueError("its first line has no end")


def _decode_stream(data: NDArray[np.uint8]) -> dict[str, Any]:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return {field.name: _decode_column(field, batch.column(i)) for i, field in enumerate(batch.schema)}


def _decode_column(field: pa.Field, row: pa.Array) -> Any:
    if not isinstance(row, pa.LargeListArray):
        return row[0].as_py()
    values = row.values
    if not field.metadata:
        return values.to_pylist()
    shape = tuple(json.loads(field.metadata[b"shape"]))
    array: NDArray[Any] = numbers_of(values)
    return array.astype(np.dtype(field.metadata[b"dtype"].decode()), copy=False).reshape(shape)
