"""Extension components as columns of a table."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

import pyarrow as pa

MOST = 64
"""Most components that are columns of their own."""

ALL = "ext"
"""The column of all of them, where they are more."""

TYPES: Mapping[frozenset[type], pa.DataType] = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
}
"""Types of a component's values -> of its column; None is of any."""


class ExtensionColumns:
    """A column for each component, by its name, behind "ext_" where that is taken.

    Integers, floats, booleans and strings are what they are; a component with other values, or of several types, is
    JSON in strings. Where there are more than 64 components they are one column of JSON, "ext".
    """

    def __init__(self, exts: Iterable[Mapping[str, Any] | None], *, reserved: Container[str]) -> None:
        """`exts`: the components of all rows. `reserved`: columns that are taken."""
        found: dict[str, set[type]] = {}
        for ext in exts:
            for key, value in (ext or {}).items():
                found.setdefault(key, set()).update(_types(value))
        self._columns: dict[str, str] = {}
        """Component -> column."""
        self._json: set[str] = set()
        """Components that are JSON."""
        self.types: dict[str, pa.DataType] = {}
        """Column -> type."""
        if len(found) > MOST:
            self.types[ALL] = pa.string()
            return
        for key in sorted(found):
            column = key
            while column in reserved or (column != key and column in found):
                column = f"ext_{column}"
            self._columns[key] = column
            self.types[column] = TYPES.get(frozenset(found[key]), pa.string())
            if frozenset(found[key]) not in TYPES:
                self._json.add(key)

    def row(self, ext: Mapping[str, Any] | None) -> dict[str, Any]:
        """Column -> value, of one row."""
        if ALL in self.types and not self._columns:
            return {ALL: None if ext is None else json.dumps(ext)}
        return {
            self._columns[key]: json.dumps(value) if key in self._json and value is not None else value
            for key, value in (ext or {}).items()
        }


def _types(value: Any) -> set[type]:
    if value is None:
        return set()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return {object}
    return {type(value)}
