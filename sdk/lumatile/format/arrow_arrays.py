"""Arrow arrays made from Python's values and numpy's arrays, and back, by way of their buffers.

`array` and `scalar` of pyarrow, and `to_numpy` of its arrays, import pandas where it is installed, even for a list of
numbers: a fifth of the time that a process takes to log its first value, and in whichever thread calls them first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CODES = {
    pa.int32().id: "i",
    pa.int64().id: "q",
    pa.timestamp("ns").id: "q",
    pa.uint32().id: "I",
    pa.float64().id: "d",
}
"""The codes of `array.array` for the ids of the types whose values have a fixed number of bytes."""

_KINDS = {
    (dtype.kind, dtype.itemsize): pa.from_numpy_dtype(dtype)
    for dtype in map(np.dtype, ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
}
"""The Arrow types of numpy's dtypes, by their kind and size in bytes."""

_DTYPES = {kind.id: np.dtype(f"{code}{size}") for (code, size), kind in _KINDS.items()}
"""The other way round, by the ids of the Arrow types."""


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return the Arrow array of type `kind`, one of the store's, of Python values.

    `values`: None is null; times are nanoseconds, maps sequences of pairs. Raises TypeError or OverflowError for a
    value that is not of that type.
    """
    n, nulls = len(values), values.count(None)
    if nulls == n:
        return pa.nulls(n, kind)
    valid = _bits([v is not None for v in values]) if nulls else None
    if code := _CODES.get(kind.id):
        numbers = array(code, [0 if v is None else v for v in values] if nulls else values)
        return pa.Array.from_buffers(kind, n, [valid, pa.py_buffer(numbers)])
    if pa.types.is_boolean(kind):
        return pa.Array.from_buffers(kind, n, [valid, _bits(values)])
    if pa.types.is_struct(kind):
        return pa.Array.from_buffers(kind, n, [valid], children=_columns([v or {} for v in values], kind))
    empty: Any = "" if pa.types.is_string(kind) else b"" if pa.types.is_binary(kind) else ()
    parts = [v or empty for v in values] if nulls else values
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        data = empty.join(parts)
        if isinstance(data, str):
            text, data = data, data.encode()
            if len(data) != len(text):  # a length in bytes is not one in characters
                parts = [part.encode() for part in parts]
        return pa.Array.from_buffers(kind, n, [valid, _offsets(parts), pa.py_buffer(data)])
    flat = list(chain.from_iterable(parts))
    if pa.types.is_map(kind):
        pair = pa.struct([kind.key_field, kind.item_field])
        columns = [array_of([entry[i] for entry in flat], field.type) for i, field in enumerate(pair)]
        entries = pa.Array.from_buffers(pair, len(flat), [None], children=columns)
    else:
        entries = array_of(flat, kind.value_type)
    return pa.Array.from_buffers(kind, n, [valid, _offsets(parts)], children=[entries])


def array_of_numbers(values: NDArray[Any], *, null: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return the Arrow array of (n,) numbers or bools, which shares their memory if they are contiguous.

    `null`: (n,), True where the result is null. Raises TypeError for a dtype that Arrow does not have.
    """
    dtype = values.dtype
    kind = _KINDS.get((dtype.kind, dtype.itemsize))
    if kind is None:
        raise TypeError(f"Arrow has no type for numbers of dtype {dtype}")
    data = _bits(values) if dtype.kind == "b" else pa.py_buffer(np.ascontiguousarray(values, _DTYPES[kind.id]))
    valid = None if null is None or not null.any() else _bits(~null)
    return pa.Array.from_buffers(kind, len(values), [valid, data])


def numbers_of(column: pa.Array | pa.ChunkedArray, *, null: float | None = None) -> NDArray[Any]:
    """Return the (n,) numbers or bools of an Arrow array, as a view where that is possible.

    `null`: the number in place of each null; None: pyarrow.ArrowInvalid is raised if there is one.
    """
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    valid, data = flat.buffers()
    dtype, n, nulls = _DTYPES[flat.type.id], len(flat), flat.null_count
    if nulls and null is None:
        raise pa.ArrowInvalid(f"{nulls} of {n} values are null, and none may be")
    if nulls == n:
        return np.full(n, null, dtype)
    numbers = _flags(data, flat) if dtype.kind == "b" else np.frombuffer(data, dtype, n, flat.offset * dtype.itemsize)
    return np.where(_flags(valid, flat), numbers, dtype.type(null)) if nulls else numbers


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return the table of `rows`, which have the columns of `schema`; a column that a row lacks is null."""
    return pa.Table.from_arrays(_columns(rows, schema), schema=schema)


def _columns(rows: Sequence[Mapping[str, Any]], fields: Iterable[pa.Field]) -> list[pa.Array]:
    columns = []
    for field in fields:
        name = field.name
        try:
            values = list(map(itemgetter(name), rows))
        except KeyError:
            values = [row.get(name) for row in rows]
        columns.append(array_of(values, field.type))
    return columns


def _bits(values: Any) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.asarray(values, np.bool_), bitorder="little"))


def _flags(bits: pa.Buffer, column: pa.Array) -> NDArray[np.bool_]:
    here = slice(column.offset, column.offset + len(column))
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=here.stop, bitorder="little")[here].view(np.bool_)


def _offsets(parts: Sequence[Sequence[Any]]) -> pa.Buffer:
    return pa.py_buffer(array("i", [0, *accumulate(map(len, parts))]))
