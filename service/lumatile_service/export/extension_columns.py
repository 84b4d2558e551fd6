"""Extension components as the columns of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

MOST = 64
"""The largest number of components that get a column each."""

ALL = "ext"
"""The name of the single column that holds all components, if there are more."""


def _text(value: str) -> str:
    """Return `value` in valid UTF-8: JSON may have halves of surrogate pairs."""
    return value.encode(errors="replace").decode()


COLUMNS: Mapping[frozenset[type], tuple[pa.DataType, Callable[[Any], Any]]] = {
    frozenset({bool}): (pa.bool_(), bool),
    frozenset({int}): (pa.int64(), int),
    frozenset({float}): (pa.float64(), float),
    frozenset({int, float}): (pa.float64(), float),
    frozenset({str}): (pa.string(), _text),
}
"""Types of a component's values, without None -> type of the column, and the function that makes its values."""


class ExtensionColumns:
    """A column for each extension component, with its name, prefixed by "ext_" if the name is taken.

    Integers, floats, booleans and strings keep their types; a component with other values, or with values of several
    types, becomes strings of JSON. More than 64 components become one column of JSON, "ext".
    """

    def __init__(self, exts: Iterable[Mapping[str, Any] | None], *, reserved: Iterable[str]) -> None:
        """Choose the columns. `exts`: the components of all rows. `reserved`: names of columns that are taken."""
        found: dict[str, set[type]] = {}
        for ext in exts:
            for key, value in (ext or {}).items():
                found.setdefault(key, set()).update(_types(value))
        taken = set(reserved)
        self.types: dict[str, pa.DataType] = {}
        """Column -> type."""
        self._columns: dict[str, tuple[str, Callable[[Any], Any]]] | None = {}
        """Component -> its column, and the function that makes the column's values; None: all are in one column."""
        if len(found) > MOST:
            self.types[ALL], self._columns = pa.string(), None
            return
        for key in sorted(found):
            column = _text(key)
            while column in taken:
                column = f"ext_{column}"
            taken.add(column)
            self.types[column], made = COLUMNS.get(frozenset(found[key]), (pa.string(), json.dumps))
            self._columns[key] = column, made

    def row(self, ext: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the values of one row: column -> value."""
        if ext is None:
            return {}
        if self._columns is None:
            return {ALL: json.dumps(ext)}
        row = {}
        for key, value in ext.items():
            column, made = self._columns[key]
            row[column] = None if value is None else made(value)
        return row


def _types(value: Any) -> set[type]:
    if value is None:
        return set()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return {object}
    return {type(value)}
