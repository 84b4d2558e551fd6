"""A summary of a recording, from its frames rows only."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lumatile.read.recording_reader import RecordingReader


def summarise(recording: RecordingReader) -> dict[str, Any]:
    """Return counts, errors and time ranges of a recording as JSON values; times are nanoseconds since the epoch."""
    rows = recording.frames_table()
    is_gap = pc.equal(rows["kind"], "gap")
    gaps, values = rows.filter(is_gap), rows.filter(pc.invert(is_gap))
    return {
        "recording_id": recording.recording_id,
        "application_id": recording.application_id,
        "values": len(values),
        "errors": len(values) - values["error"].null_count,
        "dropped": len(gaps) + (pc.sum(pc.subtract(gaps["seq_last"], gaps["seq"])).as_py() or 0),
        "damaged_segments": recording.damaged,
        "entities": _entities(values),
        "timelines": _timelines(values),
    }


def _entities(values: pa.Table) -> list[dict[str, Any]]:
    """Return one entry for each kind of each entity."""
    counted = values.group_by(["entity_path", "kind"]).aggregate([("seq", "count"), ("error", "count")])
    names = {"entity_path": "entity_path", "kind": "kind", "seq_count": "values", "error_count": "errors"}
    ordered = counted.sort_by([("entity_path", "ascending"), ("kind", "ascending")])
    return [{new: row[old] for old, new in names.items()} for row in ordered.to_pylist()]


def _timelines(values: pa.Table) -> list[dict[str, Any]]:
    """Return the first and the last instant of every timeline that has one."""
    on = values.filter(pc.invert(values["timeless"]))
    found = [_range("log_time", "time", on["log_time"]), _range("log_tick", "sequence", on["log_tick"])]
    for column, kind in (("sequences", "sequence"), ("times", "time")):
        keys = pa.chunked_array([chunk.keys for chunk in on[column].chunks], pa.string())
        items = pa.chunked_array([chunk.items.cast(pa.int64()) for chunk in on[column].chunks], pa.int64())
        found += [_range(name, kind, items.filter(pc.equal(keys, name))) for name in sorted(keys.unique().to_pylist())]
    return [timeline for timeline in found if timeline["first"] is not None]


def _range(name: str, kind: str, instants: pa.ChunkedArray) -> dict[str, Any]:
    least, most = (pc.min_max(instants.cast(pa.int64()))[end].as_py() for end in ("min", "max"))
    return {"name": name, "kind": kind, "first": least, "last": most}
