"""`lumatile info`: the facts about a recording, or about a frame of an entity."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

import lumatile as lt
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader
from lumatile.read.store import Store
from lumatile_service.cli.instant import At, frame_at
from lumatile_service.cli.ls import show
from lumatile_service.cli.output import Json, StorePath, console, instant, print_json, size, table
from lumatile_service.show.recording_summary import summarise


def info(
    store: StorePath,
    recording: Annotated[str | None, typer.Argument(help="Recording id; may be left out if there is only one.")] = None,
    entity: Annotated[str | None, typer.Argument(help="Entity path: show its frame.")] = None,
    *,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Show a recording with its errors, or a frame of an entity."""
    opened = lt.open_store(store)
    reader = opened.recording(recording)
    if entity is None:
        report = _describe_recording(opened, reader)
        print_json(report) if as_json else _show_recording(report)
    else:
        report = describe_frame(opened, reader, frame_at(reader, entity, at))
        print_json(report) if as_json else _show_frame(report)


def _describe_recording(store: Store, reader: RecordingReader) -> dict[str, Any]:
    (found,) = (info for info in store.recordings() if info.recording_id == reader.recording_id)
    rows = reader.frames_table().select(["entity_path", "kind", "error"])
    failed = rows.filter(rows["error"].is_valid()).group_by(rows.column_names).aggregate([([], "count_all")])
    return summarise(reader) | {
        "created": found.created,
        "bytes": found.nbytes,
        "segments": found.segments,
        "error_rows": failed.rename_columns({"count_all": "times"}).to_pylist(),
    }


def describe_frame(store: Store, reader: RecordingReader, frame: Frame) -> dict[str, Any]:
    """Return the facts about a frame as JSON values."""
    return {
        "recording_id": reader.recording_id,
        "entity_path": frame.entity_path,
        "kind": frame.kind,
        "shape": frame.shape,
        "dtype": None if frame.dtype is None else frame.dtype.name,
        "format": frame.format,
        "levels": frame.levels,
        "times": {
            name: {"kind": "time", "value": int(value.astype(np.int64))}
            if isinstance(value, np.datetime64)
            else {"kind": "sequence", "value": value}
            for name, value in frame.times.items()
        },
        "timeless": frame.timeless,
        "meter": frame.meter,
        "draw_order": frame.draw_order,
        "ext": frame.ext,
        "decoder": frame.decoder,
        "segment": frame.segment,
        "planes": _planes(store, reader, frame),
    }


def _planes(store: Store, reader: RecordingReader, frame: Frame) -> list[dict[str, Any]]:
    tiles = store.storage.recording(reader.recording_id).open_tiles(frame.segment)
    planes: dict[str, dict[str, Any]] = {}
    for index, _ in tiles.rows_of_frame(frame.segment_row) if frame.tile_count else ():
        for row in index:
            name, codec = row["plane"].decode(), row["codec"].decode()
            plane = planes.setdefault(name, {"plane": name, "codec": codec, "tiles": 0, "bytes": 0, "raw_bytes": 0})
            plane["tiles"] += 1
            plane["bytes"] += int(row["size"])
            plane["raw_bytes"] += int(row["raw_size"])
    return list(planes.values())


def _show_recording(report: dict[str, Any]) -> None:
    show(report)
    for row in report["error_rows"]:
        times = f" ({row['times']} times)" if row["times"] > 1 else ""
        console().print(
            f"[red]error[/] {escape(row['entity_path'] or '/')} ({row['kind']}): {escape(row['error'])}{times}"
        )


def _show_frame(report: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{escape(report['entity_path'])}[/]: {report['kind']} in {escape(report['recording_id'])}")
    facts = table("", "")
    facts.show_header = False
    for name in ("shape", "dtype", "format", "meter", "draw_order", "decoder", "ext", "timeless", "segment"):
        if report[name] is not None:
            facts.add_row(f"  {name}", escape(str(report[name])))
    facts.add_row("  levels", ", ".join(f"{width} x {height}" for height, width in report["levels"]))
    for name, time in report["times"].items():
        facts.add_row(f"  {escape(name)}", instant(time["kind"], time["value"]))
    out.print(facts)
    planes = table("  plane", "codec", "tiles", "stored", "decoded", right=("tiles", "stored", "decoded"))
    for plane in report["planes"]:
        planes.add_row(
            f"  {plane['plane']}",
            plane["codec"],
            str(plane["tiles"]),
            size(plane["bytes"]),
            size(plane["raw_bytes"]),
        )
    out.print(planes)
