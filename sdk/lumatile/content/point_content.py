"""Points: from the caller's arrays to the content of a LoggedValue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.content.arrays import as_array, dtype_name, frozen
from lumatile.content.colors import as_rgba8
from lumatile.content.image_content import as_uint16, ids_of_floats
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.settings import FloatColors
from lumatile.values import Content, PointColumns

EXACT_IN_FLOAT32 = 2**24
"""All integers up to this one are exact as float32."""


def points_content(arguments: Mapping[str, Any], float_colors: FloatColors, *, single: bool = False) -> Content:
    """Return the content of one `log_points` call.

    `arguments`: positions, identifiers, colors, radii, labels, class_ids and keypoint_ids as they were given.
    `single`: positions are one point's coordinates, in an array of any shape.
    An empty column is no column; columns of any length go with zero points.
    Raises InvalidValueError or InvalidTypeError; the message names a count that is neither 1 nor that of the positions.
    """
    source = {name: _source(name, value) for name, value in arguments.items() if value is not None}
    positions = _positions(source.get("positions"), single=single)
    count = len(positions)
    if count:
        source = {name: column for name, column in source.items() if _size(column)}
    columns: dict[str, Any] = {}
    if "colors" in source:
        columns["colors"] = _per_point("colors", as_rgba8("colors", source["colors"], float_colors), count)
    if "radii" in source:
        with np.errstate(over="ignore"):
            radii = _flat("radii", source["radii"]).astype(np.float32, copy=False)
        columns["radii"] = _per_point("radii", radii, count)
    for name in ("class_ids", "keypoint_ids"):
        if name in source:
            given = _flat(name, source[name])
            given = ids_of_floats(name, given) if given.dtype.kind == "f" else _integers(name, given)
            ids = as_uint16(name, given).astype(np.uint16, copy=False)
            columns[name] = _per_point(name, ids, count)
    if "keypoint_ids" in columns and "class_ids" not in columns:
        columns["class_ids"] = _read_only(np.zeros(count, np.uint16))
    if "identifiers" in source:
        columns["identifiers"] = _per_point("identifiers", as_identifiers(source["identifiers"]), count)
    if "labels" in source:
        columns["labels"] = _labels_per_point(source["labels"], count)
    given = source.get("positions", positions)
    return {
        "points": PointColumns(positions=positions, source=source, **columns),
        "source_shape": given.shape,
        "source_dtype": dtype_name(given.dtype),
    }


def _source(name: str, value: Any) -> Any:
    """Return an argument as it was given: a private array, or a list of labels."""
    if name == "labels":
        return _labels(value)
    if name == "identifiers":
        array, private = identifiers_given(value)
    else:
        array, private = as_array(name, value, masked=np.nan if name == "positions" else None)
    return frozen(array, private=private)


def identifiers_given(value: Any) -> tuple[NDArray[Any], bool]:
    """Return identifiers as `as_array` does, also a list of small and large integers, which numpy would make floats."""
    if isinstance(value, list | tuple) and all(isinstance(n, int) and 0 <= n < 2**64 for n in value):
        return np.array(value, np.uint64), True
    return as_array("identifiers", value)


def _positions(given: NDArray[Any] | None, *, single: bool) -> NDArray[Any]:
    """Return positions as (N, 2) or (N, 3), float32 if that is exact, else float64; (0, 3) for the empty set."""
    if given is None or not given.size:
        return _read_only(np.empty((0, 3), np.float32))
    if single:
        if given.size not in (2, 3):
            raise InvalidValueError(f"position must have 2 or 3 coordinates, not shape {given.shape}")
        given = given.reshape(1, -1)
    if given.ndim != 2 or given.shape[1] not in (2, 3):
        hint = "; one point is log_point's" if given.ndim == 1 else ""
        raise InvalidValueError(f"positions must be Nx2 or Nx3, not {given.shape}{hint}")
    if given.dtype in (np.float32, np.float64):
        return given
    exact = given.dtype.kind not in "iu" or (given.min() >= -EXACT_IN_FLOAT32 and given.max() <= EXACT_IN_FLOAT32)
    return _read_only(given.astype(np.float32 if exact else np.float64))


def _size(column: NDArray[Any] | Sequence[Any]) -> int:
    return column.size if isinstance(column, np.ndarray) else len(column)


def _flat(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return one number or N as (1,) or (N,)."""
    sides = [n for n in array.shape if n != 1]
    if len(sides) > 1:
        raise InvalidValueError(f"{name} must be one number or one per point, not of shape {array.shape}")
    return array.reshape(-1)


def _integers(name: str, array: NDArray[Any]) -> NDArray[Any]:
    flat = _flat(name, array)
    if not flat.size:
        return flat.astype(np.uint16)
    if flat.dtype.kind not in "iu":
        raise InvalidTypeError(f"{name} must be integers, not of dtype {flat.dtype.name}")
    return flat


def as_identifiers(array: NDArray[Any]) -> NDArray[np.uint64]:
    """Return one identifier or N as (1,) or (N,). Raises InvalidValueError or InvalidTypeError."""
    flat = _integers("identifiers", array)
    if flat.size and flat.min() < 0:
        raise InvalidValueError(f"identifiers must be 0 to 2^64 - 1, not {flat.min()}")
    return flat.astype(np.uint64, copy=False)


def _labels(value: Any) -> list[str | None]:
    if hasattr(value, "as_py"):  # an Arrow scalar
        value = value.as_py()
    if _is_missing(value):
        return [None]
    if not hasattr(value, "__len__") or isinstance(value, bytes | Mapping):
        raise InvalidTypeError(f"labels must be a string or a sequence of strings, not {shown(value)}")
    if hasattr(value, "to_pylist"):  # an Arrow array
        value = value.to_pylist()
    labels = [_label(each) for each in ([value] if isinstance(value, str) else value)]
    try:
        "".join(label for label in labels if label).encode()
    except UnicodeEncodeError as e:
        raise InvalidValueError(f"labels must be valid Unicode, not {shown(e.object)}") from e
    return labels


def _label(value: Any) -> str | None:
    """Return one label; None where it is missing."""
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "as_py"):
        return _label(value.as_py())
    if _is_missing(value):
        return None
    raise InvalidTypeError(f"labels must be strings or None, not {shown(value)}")


def _is_missing(value: Any) -> bool:
    """Return whether `value` stands for nothing: None, NaN, pandas' NA, masked by numpy."""
    if value is None or type(value).__name__ in ("NAType", "MaskedConstant"):
        return True
    return isinstance(value, float) and math.isnan(value)


def _labels_per_point(labels: Sequence[str | None], count: int) -> Sequence[str | None]:
    _check_count("labels", len(labels), count)
    return labels if len(labels) == count else list(labels[:1]) * count


def _per_point(name: str, column: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the column with one entry for each point, read-only."""
    _check_count(name, len(column), count)
    if len(column) != count:
        column = np.repeat(column[:1], count, axis=0)
    return _read_only(np.ascontiguousarray(column))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _check_count(name: str, count: int, points: int) -> None:
    if points and count not in (1, points):
        raise InvalidValueError(f"{name}: {count} for {points} points; give 1 or {points}")
