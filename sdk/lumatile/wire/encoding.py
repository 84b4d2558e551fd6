"""Logged values as the record batches that are sent to a service; see protocol.py for their rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.errors import LumatileError
from lumatile.format.arrow_arrays import array_of
from lumatile.format.point_planes import encode_source
from lumatile.format.schema import LOG
from lumatile.values import LoggedValue
from lumatile.wire.protocol import CHECKED, GIVEN, PART_BYTES, POINT_COLUMNS, Refused

BATCH_BYTES = 1 << 20
"""Small values share a batch up to this size of payload, and of JSON, in bytes."""

BATCH_ROWS = 256


class UnsendableError(LumatileError):
    """A value cannot be encoded; those before it have been encoded."""

    def __init__(self, index: int, refused: Refused) -> None:
        """`index`: its index among the values that were to be encoded; `refused`: the value, and why."""
        super().__init__(refused.reason)
        self.index = index
        self.refused = refused


def encode(values: Sequence[LoggedValue]) -> Iterator[pa.RecordBatch]:
    """Yield some values as batches of rows, in order.

    Large payloads are views of their arrays, in batches of their own. An array on a GPU is copied to the host first.

    Raises:
        UnsendableError: a value cannot be encoded; the batches before it have been yielded.
    """
    small: list[dict[str, Any]] = []
    sizes = 0, 0
    for index, value in enumerate(values):
        try:
            content, payload = _payload(value)
            description = json.dumps(_described(value, content))
        except Exception as e:
            if small:
                yield _batch(small)
            why = f"it cannot be encoded: {type(e).__name__}: {e}"
            raise UnsendableError(index, Refused(producer=value.producer, seq=value.seq, reason=why)) from e
        parts = max(1, -(-payload.nbytes // PART_BYTES))
        head = {"producer": value.producer, "seq": value.seq, "parts": parts, "size": payload.nbytes}
        first = {**head, "part": 0, "value": description, "payload": payload[:PART_BYTES]}
        sizes = sizes[0] + payload.nbytes, sizes[1] + len(description)
        if small and (len(small) == BATCH_ROWS or max(sizes) > BATCH_BYTES):
            yield _batch(small)
            small, sizes = [], (payload.nbytes, len(description))
        small.append(first)
        for part in range(1, parts):
            yield _batch(small)
            small = [{**head, "part": part, "value": None, "payload": payload[part * PART_BYTES :][:PART_BYTES]}]
    if small:
        yield _batch(small)


def _payload(value: LoggedValue) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return what the description says of the payload, and the (n,) uint8 payload."""
    if value.array is not None:
        array = value.array if isinstance(value.array, np.ndarray) else value.array.host(POOL.take)
        little = array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("<"))
        return {"array": array.dtype.name, "shape": array.shape}, little.reshape(-1).view(np.uint8)
    if value.encoded is not None:
        return {"encoded": True}, np.frombuffer(value.encoded, np.uint8)
    if value.points is not None:
        names = (*POINT_COLUMNS, "labels")
        columns = {CHECKED + n: c for n in names if (c := getattr(value.points, n)) is not None}
        return {"points": True}, encode_source(columns | {GIVEN + n: c for n, c in value.points.source.items()})
    return {}, np.zeros(0, np.uint8)


PLAIN = (
    "entity_path",
    "kind",
    "seq_last",
    "source_shape",
    "source_dtype",
    "meter",
    "draw_order",
    "ext",
    "body",
    "recursive",
    "error",
    "provenance",
)
"""The fields of LoggedValue that are sent unchanged."""


def _described(value: LoggedValue, content: dict[str, Any]) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in PLAIN}
    time = value.time
    fields["time"] = {
        "log_time": time.log_time,
        "log_tick": time.log_tick,
        "sequences": dict(time.sequences),
        "times": dict(time.times),
        "timeless": time.timeless,
    }
    return {name: entry for name, entry in fields.items() if entry is not None} | content


def _batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    payloads = [row["payload"] for row in rows]
    offsets = np.cumsum([0, *(p.nbytes for p in payloads)], dtype=np.int64)
    data = payloads[0] if len(payloads) == 1 else np.concatenate(payloads)
    payload = pa.Array.from_buffers(pa.large_binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    others = [array_of([row[field.name] for row in rows], field.type) for field in list(LOG)[1:]]
    return pa.record_batch([payload, *others], schema=LOG)
