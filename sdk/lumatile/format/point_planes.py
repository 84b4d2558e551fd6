"""Encoding a cloud's columns as the bytes of its tiles rows, and decoding them.

Points are stored in chunks of at most 65,536: row (plane, level, x) holds one column of chunk x of a level, so
that a viewer fetches only the columns that it draws. The columns as they were given are stored too, as one Arrow IPC
stream (`encode_source`).
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
from lumatile.format.arrow_arrays import array_as_inferred, array_of, array_of_numbers, numbers_of
from lumatile.format.schema import point_source
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
    """Encode the source plane of a cloud: its columns as given, as one Arrow IPC stream of one row.

    Arrays and sequences become lists of all their values in C order, with the array's shape and dtype in the field's
    metadata; None, strings and numbers are kept as they are. Raises InvalidTypeError for a value that Arrow has no
    type for.
    """
    fields, arrays = [], []
    for name, value in columns.items():
        try:
            field, array = _encode_column(name, value)
        except (pa.ArrowException, TypeError) as e:
            raise InvalidTypeError(f"{name}: cannot be stored: {e}") from e
        fields.append(field)
        arrays.append(array)
    batch = pa.record_batch(arrays, schema=point_source(fields))
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(stream.getvalue(), np.uint8)


def _encode_column(name: str, value: Any) -> tuple[pa.Field, pa.Array]:
    """Encode one column as a field and an array of one row."""
    metadata = {}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        flat = np.ascontiguousarray(value).reshape(-1)
        metadata = {"shape": json.dumps(value.shape), "dtype": value.dtype.name}
        values = array_of_numbers(flat)
    elif value is None or isinstance(value, (str, bool, int, float)):
        row = array_as_inferred([value])
        return pa.field(name, row.type), row
    else:
        values = array_as_inferred(list(value))
    row = pa.LargeListArray.from_arrays(array_of([0, len(values)], pa.int64()), values)
    return pa.field(name, row.type, metadata=metadata), row


def decode_source(data: NDArray[np.uint8]) -> dict[str, Any]:
    """Decode the columns that `encode_source` was given: arrays in native byte order, other sequences as lists.

    Raises CorruptStoreError where `data` is not such a stream.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        return {field.name: _decode_column(field, batch.column(i)) for i, field in enumerate(batch.schema)}
    except (pa.ArrowException, StopIteration, IndexError, KeyError, TypeError, ValueError, OSError) as e:
        raise CorruptStoreError(f"the source plane of a cloud is not an Arrow stream of its columns: {e}") from e


def _decode_column(field: pa.Field, row: pa.Array) -> Any:
    if not isinstance(row, pa.LargeListArray):
        return row[0].as_py()
    values = row.values
    if not field.metadata:
        return values.to_pylist()
    shape = tuple(json.loads(field.metadata[b"shape"]))
    array: NDArray[Any] = numbers_of(values)
    return array.astype(np.dtype(field.metadata[b"dtype"].decode()), copy=False).reshape(shape)
