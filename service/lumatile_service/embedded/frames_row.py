"""The frames row of a value."""

from __future__ import annotations

from typing import Any

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
