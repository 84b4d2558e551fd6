"""Extension components: data of the user's own that goes with a value, as JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lumatile.content.arrays import as_array
from lumatile.content.point_content import as_identifiers, identifiers_given
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.values import Content


def extension_json(ext: Any) -> str | None:
    """Return `ext`, a mapping with string keys, as the text of a JSON object; None for None.

    Arrays and numpy numbers become lists and numbers, instants ISO 8601 strings; floats that JSON has no number for
    become the strings "NaN", "Infinity" and "-Infinity" (as in the JSON form of Protocol Buffers).
    Raises InvalidTypeError or InvalidValueError for a value that has no JSON.
    """
    if ext is None:
        return None
    if not isinstance(ext, Mapping):
        raise InvalidTypeError(f"ext must be a dictionary, not {shown(ext)}")
    try:
        return json.dumps(_plain(ext), separators=(",", ":"))
    except RecursionError:
        raise InvalidValueError("ext must not be nested so deeply, nor contain itself") from None


def extension_content(ext: Any, identifiers: Any) -> Content:
    """Return the content of an extension value: the identifiers of the points it is for, if any.

    Raises InvalidValueError or InvalidTypeError.
    """
    if ext is None:
        raise InvalidTypeError(f"ext must be a dictionary, not {shown(ext)}")
    if identifiers is None:
        return {}
    numbers = as_identifiers(identifiers_given(identifiers)[0])
    return {"body": json.dumps({"identifiers": numbers.tolist()}, separators=(",", ":"))}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidTypeError(f"keys of ext must be strings, not {shown(key)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        instants = value.dtype.kind == "M"  # tolist() would make numbers of some
        return (
            _plain((value.astype(str) if instants else value).tolist()) if value.dtype.kind != "m" else _refuse(value)
        )
    return _plain(_plainer(value))


def _plainer(value: Any) -> Any:
    """Return an instant as text, a numpy number as Python's, and an array of another library as numpy's."""
    if isinstance(value, dt.date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic) and not isinstance(value, np.void | np.timedelta64):
        return value.item()
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return as_array("ext", value)[0]
    return _refuse(value)


def _refuse(value: Any) -> None:
    raise InvalidTypeError(
        f"ext must be of numbers, strings, booleans, None, instants, lists, dictionaries and arrays, not {shown(value)}"
    )
