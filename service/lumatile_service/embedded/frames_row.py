"""The frames row of a value, and its logged bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.format.point_planes import encode_source
from lumatile.values import LoggedValue


def frames_row(value: LoggedValue) -> dict[str, Any]:
    """Return the columns of the frames row that do not depend on the content of `value`; the others are empty."""
    time = value.time
    return {
        "entity_path": value.entity_path,
        "kind": value.kind,
        "log_time": time.log_time,
        "log_tick": time.log_tick,
        "sequences": time.sequences,
        "times": time.times,
        "timeless": time.timeless,
        "shape": None,
        "source_shape": value.source_shape,
        "source_dtype": value.source_dtype,
        "source": "none",
        "tile_format": None,
        "levels": None,
        "meter": value.meter,
        "draw_order": value.draw_order,
        "point_origin": None,
        "ext": value.ext,
        "body": value.body,
        "recursive": value.recursive,
        "palette_hash": None,
        "decoder": None,
        "error": value.error,
        "provenance": value.provenance,
        "producer": value.producer,
        "seq": value.seq,
        "seq_last": value.seq_last,
    }


def logged_bytes(value: LoggedValue) -> NDArray[np.uint8] | None:
    """Return the bytes of a value for `source` rows; None: it has none. Raises the errors of a device."""
    if value.encoded is not None:
        return np.frombuffer(value.encoded, np.uint8)
    if value.points is not None:
        return encode_source(value.points.source)
    if value.array is None:
        return None
    array = value.array if isinstance(value.array, np.ndarray) else value.array.host(POOL.take)
    return array.reshape(-1).view(np.uint8)
