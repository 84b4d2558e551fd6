"""The row of one logged value: all that is known of it without a look at its tiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa

from lumatile.errors import CorruptStoreError
from lumatile.read.rows import RowBatch
from lumatile.values import Kind

DRAW_ORDERS = {"image": -10.0, "depth": -10.0, "segmentation": -10.0, "points": 30.0}
"""By kind."""

DIMENSIONS = {"image": 3, "depth": 2, "segmentation": 2, "points": 2}
"""Of a frame's shape, by kind."""


class FrameRow:
    """A row of a frames file, its columns read when they are asked for."""

    def __init__(self, batch: RowBatch, row: int) -> None:
        """Row `row` of `batch`."""
        self._batch = batch
        self._row = row

    def __repr__(self) -> str:
        """Return its kind and path, what was logged, and its times. No tile is read; `?`: the store is damaged here."""
        facts: dict[str, Callable[[], Any]] = {
            "shape": lambda: self.shape,
            "dtype": lambda: self.dtype,
            "format": lambda: self.format,
            "levels": lambda: self._get("levels"),
            "error": lambda: self.error and repr(self.error),
            "timeless": lambda: self.timeless or None,
        }
        shown: dict[str, Any] = {}
        for name, read in facts.items():
            try:
                shown[name] = read()
            except CorruptStoreError:
                shown[name] = "?"
        shown.update((name, time) for name, time in self.times.items() if name != "log_tick")
        listed = " ".join(f"{name}={value}" for name, value in shown.items() if value is not None)
        return f"<{type(self).__name__} {self.kind} {self.entity_path!r} {listed}>"

    def moved(self, batch: RowBatch, row: int) -> None:
        """The row is in another segment now: the one it was found in has been merged."""
        self._batch = batch
        self._row = row

    @property
    def segment(self) -> str:
        """The segment it was read from."""
        return self._batch.segments[int(self._batch.segment[self._row])]

    @property
    def segment_row(self) -> int:
        """Its row in that segment's frames file."""
        return int(self._batch.frame[self._row])

    @property
    def key(self) -> tuple[bytes, int]:
        """(producer, seq)."""
        return self._get("producer"), int(self._batch.seq[self._row])

    @property
    def tile_count(self) -> int:
        """Tiles rows of all planes."""
        return int(self._get("tile_count"))

    @property
    def entity_path(self) -> str:
        """Where in the recording it was logged."""
        return str(self._get("entity_path"))

    @property
    def kind(self) -> Kind:
        """What was logged."""
        return cast("Kind", self._get("kind"))

    @property
    def log_time(self) -> int:
        """When it was logged, in nanoseconds since the epoch."""
        return int(self._batch.log_time[self._row])

    @property
    def timeless(self) -> bool:
        """On no timeline: holds always."""
        return bool(self._batch.timeless[self._row])

    @cached_property
    def times(self) -> dict[str, int | np.datetime64]:
        """Its time points: int on a sequence, datetime64[ns] (UTC) on a time. `log_time` is filled for timeless too."""
        times: dict[str, int | np.datetime64] = {
            "log_time": np.datetime64(self.log_time, "ns"),
            "log_tick": int(self._get("log_tick")),
        }
        for column in ("sequences", "times"):
            entries = self._batch.table[column].slice(self._row, 1).combine_chunks()
            first, last = entries.offsets[0].as_py(), entries.offsets[1].as_py()
            values = entries.items[first:last].cast(pa.int64()).to_pylist()
            if column == "times":
                values = [np.datetime64(value, "ns") for value in values]
            times.update(zip(entries.keys[first:last].to_pylist(), values, strict=True))
        return times

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the logged array (points: of the positions; JPEG: uint8); None where there was none."""
        name = self._get("source_dtype")
        if name is None:
            return None
        try:
            return np.dtype("uint8" if name == "jpeg" else name)
        except TypeError as e:
            raise self.corrupt(f"dtype {name!r}") from e

    @cached_property
    def shape(self) -> tuple[int, ...] | None:
        """Images (h, w, c), depth and segmentation (h, w), points (N, d); None for others and for error rows."""
        shape = self._get("shape")
        if shape is None:
            return None
        if len(shape) != DIMENSIONS.get(self.kind) or any(size is None or size < 0 for size in shape):
            raise self.corrupt(f"shape {shape!r:.80}")
        return tuple(shape)

    @property
    def format(self) -> str | None:
        """WebGPU name of the texels (segmentation: of the ids); None for what has none."""
        name = self._get("tile_format")
        return None if name is None else str(name)

    @property
    def meter(self) -> float | None:
        """Depth: units per metre of the logged values."""
        return cast("float | None", self._get("meter"))

    @property
    def draw_order(self) -> float | None:
        """Greater is drawn over less; the kind's default where none was given."""
        given = self._get("draw_order")
        return DRAW_ORDERS.get(self.kind) if given is None else float(given)

    @property
    def ext(self) -> dict[str, Any] | None:
        """Extension components."""
        text = self._get("ext")
        return None if text is None else self._json(text)

    @property
    def recursive(self) -> bool:
        """Clears: the entity's descendants too."""
        return bool(self._get("recursive"))

    @property
    def decoder(self) -> str | None:
        """What decoded an image file."""
        return cast("str | None", self._get("decoder"))

    @property
    def palette_hash(self) -> str | None:
        """Of the palette that stored colors were looked up with; None: they are explicit, or there are none."""
        return cast("str | None", self._get("palette_hash"))

    @property
    def error(self) -> str | None:
        """Why nothing was stored; None: all is well."""
        return cast("str | None", self._get("error"))

    @property
    def provenance(self) -> dict[str, str | None] | None:
        """Batch input: uri, member, content_hash."""
        return cast("dict[str, str | None] | None", self._get("provenance"))

    def corrupt(self, what: object) -> CorruptStoreError:
        """The error that says what is wrong with this row."""
        return CorruptStoreError(f"segment {self.segment}, row {self.segment_row} ({self.entity_path!r}): {what}")

    def _get(self, column: str) -> Any:
        return self._batch.table[column][self._row].as_py()

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError) as e:
            raise self.corrupt(f"JSON: {e}") from e
