"""Logged values from the record batches that a process receives, with every check; see protocol.py for their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.content.image_content import COLOR_DTYPES, MAX_EDGE, units_per_metre
from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import CorruptStoreError, InvalidValueError, LumatileError
from lumatile.format.point_planes import decode_source
from lumatile.format.schema import LOG
from lumatile.values import OVERHEAD, Kind, LoggedValue, PointColumns, TimePoint
from lumatile.wire.protocol import CHECKED, GIVEN, PART_BYTES, POINT_COLUMNS, PRODUCER_BYTES, Refused

ARRAY_KINDS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "image": (3, tuple(COLOR_DTYPES.values())),
    "depth": (2, tuple(COLOR_DTYPES.values())),
    "segmentation": (2, ("uint8", "uint16")),
}
"""The number of axes and the dtypes of each kind of array."""


class WireError(InvalidValueError):
    """The bytes that were received are not a logged value; the message is the rule and what broke it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of what a receiver accepts."""

    streams: int = 1024
    """The most streams at a time; each has two threads."""
    message_bytes: int = 64 << 20
    """The largest batch, in bytes. (Arrow sets no bound for gRPC: a larger batch is refused after it has arrived.)"""
    value_bytes: int = 8 << 30
    """The largest payload of a value, in bytes."""
    text_bytes: int = 16 << 20
    """The longest JSON of a value, in characters."""
    batch_rows: int = 4096
    """The most rows of a batch."""
    timelines: int = 1024
    """The most timelines of a value, of each kind."""


class Decoder:
    """Decodes the values of one stream, from batches in the order in which they were sent."""

    def __init__(self, limits: Limits) -> None:
        """`limits`: of what is accepted."""
        self._limits = limits
        self._first: dict[str, Any] | None = None
        """The row with the first part of a value of which more parts are to come."""
        self._buffer = np.zeros(0, np.uint8)
        self._filled = 0
        self._part = 0
        """The number of the part that comes next."""

    def decode(self, batch: pa.RecordBatch) -> Iterator[LoggedValue | Refused]:
        """Yield the values that are complete with `batch`; their arrays may be views of it.

        Raises:
            WireError: the rows break a rule; the rest of the stream cannot be decoded then.
        """
        if not batch.schema.equals(LOG):
            raise WireError(f"the columns must be {', '.join(LOG.names)}")
        nbytes = batch.get_total_buffer_size()
        if nbytes > self._limits.message_bytes:
            raise WireError(f"a batch must have at most {self._limits.message_bytes} bytes, not {nbytes}")
        if batch.num_rows > self._limits.batch_rows:
            raise WireError(f"a batch must have at most {self._limits.batch_rows} rows, not {batch.num_rows}")
        try:
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as e:
            raise WireError(f"a record batch must be valid: {e}") from e
        column = batch.column(0)
        _, offsets_buffer, data = column.buffers()
        if not batch.num_rows:
            return
        offsets = np.frombuffer(offsets_buffer, np.int64)[column.offset :][: batch.num_rows + 1].tolist()
        everything = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
        rows = batch.select(LOG.names[1:]).to_pylist()
        for i, row in enumerate(rows):
            value = self._take(row, everything[offsets[i] : offsets[i + 1]])
            if value is not None:
                yield value

    def _take(self, row: dict[str, Any], payload: NDArray[np.uint8]) -> LoggedValue | Refused | None:
        part, parts, size = row["part"], row["parts"], row["size"]
        if len(row["producer"]) != PRODUCER_BYTES or row["seq"] < 0:
            raise WireError(f"a value must have a producer of {PRODUCER_BYTES} bytes and a seq >= 0")
        if size < 0:
            raise WireError(f"a value must not have {size} bytes")
        if parts != max(1, -(-size // PART_BYTES)) or part != self._part:
            raise WireError(f"part {part} of {parts}, of {size} bytes, must be part {self._part}")
        if part == 0 and parts == 1 and size <= self._limits.value_bytes:
            return self._value(row, payload)
        return self._join(row, payload)

    def _join(self, row: dict[str, Any], payload: NDArray[np.uint8]) -> LoggedValue | Refused | None:
        """Add one part of a value; nothing is kept of a value that is too large."""
        part, size = row["part"], row["size"]
        large = size > self._limits.value_bytes
        if part == 0:
            self._first, self._buffer, self._filled = row, POOL.take(0 if large else size), 0
        first = self._first
        if first is None or any(first[name] != row[name] for name in ("producer", "seq", "size")):
            raise WireError("the parts of a value must follow each other")
        end = self._filled + payload.nbytes
        if end > size:
            raise WireError(f"the parts of a value of {size} bytes must not have more")
        if not large:
            self._buffer[self._filled : end] = payload
        self._filled, self._part = end, part + 1
        if self._part < row["parts"]:
            return None
        whole = self._buffer[:end]
        self._first, self._buffer, self._part = None, np.zeros(0, np.uint8), 0
        if large:
            why = f"a value must have at most {self._limits.value_bytes} bytes, not {size}"
            return Refused(producer=row["producer"], seq=row["seq"], reason=why, kind="too_large")
        return self._value(first, whole)

    def _value(self, row: dict[str, Any], payload: NDArray[np.uint8]) -> LoggedValue | Refused:
        if payload.nbytes != row["size"]:
            raise WireError(f"a value of {row['size']} bytes must not come with {payload.nbytes}")
        try:
            return _logged_value(_described_by(row["value"], self._limits), row, payload, self._limits)
        except WireError as e:
            reason = str(e)
        except (LumatileError, ValueError, TypeError, KeyError, RecursionError, AttributeError, OverflowError) as e:
            reason = f"what describes a value must be what LoggedValue says: {type(e).__name__}: {e}"
        return Refused(producer=row["producer"], seq=row["seq"], reason=reason)


def _described_by(text: str | None, limits: Limits) -> Any:
    if text is None or len(text) > limits.text_bytes:
        raise WireError(f"a value must be described, in at most {limits.text_bytes} characters")
    return json.loads(text)


def _logged_value(
    described: Mapping[str, Any], row: Mapping[str, Any], payload: NDArray[np.uint8], limits: Limits
) -> LoggedValue:
    kind = _one_of("kind", described["kind"], get_args(Kind))
    content: dict[str, Any] = {}
    if "array" in described:
        content["array"] = _array(kind, described, payload)
    elif described.get("encoded") is True and kind == "image":
        content["encoded"] = payload.tobytes()
    elif described.get("points") is True and kind == "points":
        content["points"] = _points(payload)
    elif payload.nbytes:
        raise WireError(f"a value of kind {kind!r} must not have a payload of {payload.nbytes} bytes")
    if kind == "depth" and "array" in content:
        content["meter"] = units_per_metre(_number("meter", described["meter"]), content["array"].dtype)
    order = described.get("draw_order")
    texts: dict[str, Any] = {
        name: _text_or_none(name, described.get(name)) for name in ("ext", "body", "error", "source_dtype")
    }
    path = _text("entity_path", described["entity_path"])
    nbytes = OVERHEAD + payload.nbytes + len(row["value"])
    return LoggedValue(
        entity_path=normalise_entity_path(path) if path else "",
        kind=kind,
        time=_time_point(described["time"], limits),
        producer=row["producer"],
        seq=row["seq"],
        seq_last=_integer("seq_last", described["seq_last"]) if "seq_last" in described else None,
        source_shape=_shape(described["source_shape"]) if "source_shape" in described else None,
        draw_order=None if order is None else _number("draw_order", order),
        recursive=described.get("recursive") is True,
        provenance=_texts("provenance", described["provenance"]) if "provenance" in described else None,
        nbytes=nbytes,
        **texts,
        **content,
    )


def _array(kind: str, described: Mapping[str, Any], payload: NDArray[np.uint8]) -> NDArray[Any]:
    if kind not in ARRAY_KINDS:
        raise WireError(f"a value of kind {kind!r} must not have an array")
    axes, dtypes = ARRAY_KINDS[kind]
    dtype = np.dtype(_one_of("dtype", described["array"], dtypes))
    shape = _shape(described["shape"])
    if len(shape) != axes or (axes == 3 and shape[2] not in (1, 3, 4)):
        raise WireError(f"a value of kind {kind!r} must not have the shape {shape}")
    if math.prod(shape) * dtype.itemsize != payload.nbytes:
        raise WireError(f"an array of {dtype} {shape} must not have {payload.nbytes} bytes")
    if payload.ctypes.data % dtype.itemsize:
        payload = payload.copy()
    array: NDArray[Any] = payload.view(dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)
    return array


def _points(payload: NDArray[np.uint8]) -> PointColumns:
    try:
        columns = decode_source(payload)
    except CorruptStoreError as e:
        raise WireError(str(e)) from e
    source = {name.removeprefix(GIVEN): c for name, c in columns.items() if name.startswith(GIVEN)}
    checked = {name.removeprefix(CHECKED): c for name, c in columns.items() if name.startswith(CHECKED)}
    count = len(checked["positions"])
    for name, column in checked.items():
        if name == "labels":
            if len(column) != count or not all(label is None or isinstance(label, str) for label in column):
                raise WireError(f"labels must be {count} strings")
            continue
        dtypes, components = POINT_COLUMNS[name]
        fits = column.shape == (count,) if not components else column.shape in [(count, n) for n in components]
        if column.dtype.name not in dtypes or not fits:
            raise WireError(f"{name} of {count} points must not be {column.dtype} {column.shape}")
    return PointColumns(source=source, **checked)


def _time_point(described: Mapping[str, Any], limits: Limits) -> TimePoint:
    sequences, times = described["sequences"], described["times"]
    for timelines in (sequences, times):
        if not isinstance(timelines, dict) or len(timelines) > limits.timelines:
            raise WireError(f"a value must be on at most {limits.timelines} timelines")
        for name, at in timelines.items():
            _integer(f"timeline {name!r}", at)
    return TimePoint(
        log_time=_integer("log_time", described["log_time"]),
        log_tick=_integer("log_tick", described["log_tick"]),
        sequences=sequences,
        times=times,
        timeless=described["timeless"] is True,
    )


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise WireError(f"{name} must be an integer of 64 bits, not {value!r:.80}")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"{name} must be a finite number, not {value!r:.80}")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise WireError(f"{name} must be a string, not {value!r:.80}")
    value.encode()  # valid Unicode
    return value


def _text_or_none(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _texts(name: str, value: Any) -> dict[str, str]:
    return {_text(name, key): _text(name, entry) for key, entry in value.items() if entry is not None}


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_integer("a size", n) for n in value)
    if len(shape) > 32 or not all(0 <= n <= MAX_EDGE for n in shape):
        raise WireError(f"a shape must not be {shape!r:.80}")
    return shape


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise WireError(f"{name} must be one of {tuple(allowed)}, not {value!r:.80}")
    return value
