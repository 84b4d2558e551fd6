"""The frames row of one logged value: all that is known of it without its tiles."""

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
"""The draw order of a value that was logged without one, by kind."""

DIMENSIONS = {"image": 3, "depth": 2, "segmentation": 2, "points": 2}
"""The number of dimensions of a frame's shape, by kind."""


class FrameRow:
    """A row of a frames file, whose columns are read when they are asked for."""

    def __init__(self, batch: RowBatch, row: int) -> None:
        """Read row `row` of `batch`."""
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
        """Take the row from another segment: the one that it was found in has been merged."""
        self._batch = batch
        self._row = row

    @property
    def segment(self) -> str:
        """The name of the segment that it was read from."""
        return self._batch.segments[int(self._batch.segment[self._row])]

    @property
    def segment_row(self) -> int:
        """The number of its row in the frames file of that segment."""
        return int(self._batch.frame[self._row])

    @property
    def key(self) -> tuple[bytes, int]:
        """The (producer, seq) of the value, which no other value has."""
        return self._get("producer"), int(self._batch.seq[self._row])

    @property
    def tile_count(self) -> int:
        """The number of its tiles rows, of all planes."""
        return int(self._get("tile_count"))

    @property
    def entity_path(self) -> str:
        """The path of the entity that it was logged to."""
        return str(self._get("entity_path"))

    @property
    def kind(self) -> Kind:
        """The kind of the logged value: "image", "points", "clear" ..."""
        return cast("Kind", self._get("kind"))

    @property
    def log_time(self) -> int:
        """The time at which it was logged, in nanoseconds since the epoch."""
        return int(self._batch.log_time[self._row])

    @property
    def timeless(self) -> bool:
        """True where it is on no timeline: it holds at any time."""
        return bool(self._batch.timeless[self._row])

    @cached_property
    def times(self) -> dict[str, int | np.datetime64]:
        """Its time points by timeline: an int on a sequence, datetime64[ns] (UTC) on a time.

        A timeless value has a `log_time` too.
        """
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
        """The dtype of the logged array (points: of the positions; JPEG: uint8); None where there was no array."""
        name = self._get("source_dtype")
        if name is None:
            return None
        try:
            return np.dtype("uint8" if name == "jpeg" else name)
        except TypeError as e:
            raise self.corrupt(f"dtype {name!r}") from e

    @cached_property
    def shape(self) -> tuple[int, ...] | None:
        """The shape: image (h, w, c), depth and segmentation (h, w), points (N, d); None for others, and error rows."""
        shape = self._get("shape")
        if shape is None:
            return None
        if len(shape) != DIMENSIONS.get(self.kind) or any(size is None or size < 0 for size in shape):
            raise self.corrupt(f"shape {shape!r:.80}")
        return tuple(shape)

    @property
    def format(self) -> str | None:
        """The WebGPU name of the texels' format (segmentation: of the ids); None for a value without texels."""
        name = self._get("tile_format")
        return None if name is None else str(name)

    @property
    def meter(self) -> float | None:
        """For depth, the number of logged units in a metre; None for other kinds."""
        return cast("float | None", self._get("meter"))

    @property
    def draw_order(self) -> float | None:
        """The draw order: higher values are drawn on top. Where none was given, the default of the kind."""
        given = self._get("draw_order")
        return DRAW_ORDERS.get(self.kind) if given is None else float(given)

    @property
    def ext(self) -> dict[str, Any] | None:
        """The extension components; None where there are none."""
        text = self._get("ext")
        return None if text is None else self._json(text)

    @property
    def recursive(self) -> bool:
        """True for a clear that clears the entity's descendants too."""
        return bool(self._get("recursive"))

    @property
    def decoder(self) -> str | None:
        """The name of the decoder of an image file; None for other values."""
        return cast("str | None", self._get("decoder"))

    @property
    def palette_hash(self) -> str | None:
        """The hash of the palette that gave the stored colors; None: they were logged, or there are none."""
        return cast("str | None", self._get("palette_hash"))

    @property
    def error(self) -> str | None:
        """The reason why nothing was stored; None for a value that was stored."""
        return cast("str | None", self._get("error"))

    @property
    def provenance(self) -> dict[str, str | None] | None:
        """The origin of a value from a batch job: uri, member, content_hash; None for other values."""
        return cast("dict[str, str | None] | None", self._get("provenance"))

    def corrupt(self, what: object) -> CorruptStoreError:
        """Return the error that says what is wrong with this row."""
        return CorruptStoreError(f"segment {self.segment}, row {self.segment_row} ({self.entity_path!r}): {what}")

    def _get(self, column: str) -> Any:
        return self._batch.table[column][self._row].as_py()

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError) as e:
            raise self.corrupt(f"JSON: {e}") from e
