"""`lumatile ls`: what is in a store."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

import lumatile as lt
from lumatile_service.cli.output import Json, StorePath, console, instant, print_json, size, table
from lumatile_service.show.recording_summary import summarise


def ls(store: StorePath, *, as_json: Json = False) -> None:
    """List recordings: entities, kinds, counts, bytes, times."""
    opened = lt.open_store(store)
    summaries = [
        summarise(opened.recording(info.recording_id)) | {"bytes": info.nbytes, "segments": info.segments}
        for info in opened.recordings()
    ]
    if as_json:
        print_json({"store": store, "recordings": summaries})
        return
    if not summaries:
        print(f"no recordings in {store}")
    for summary in summaries:
        show(summary)


def show(summary: dict[str, Any]) -> None:
    """A recording, for people."""
    out = console()
    out.print(
        f"[bold]{escape(summary['recording_id'])}[/] of {escape(summary['application_id'])}: "
        f"{summary['values']} values, {size(summary['bytes'])} in {summary['segments']} segments"
    )
    for count, what in (
        (summary["errors"], "values are errors"),
        (summary["dropped"], "values were dropped"),
        (len(summary["damaged_segments"]), "segments are damaged"),
    ):
        if count:
            out.print(f"  [red]{count} {what}[/]")
    entities = table("  entity", "kind", "values", "errors", right=("values", "errors"))
    for entity in summary["entities"]:
        path = entity["entity_path"] or "/"
        entities.add_row(f"  {escape(path)}", entity["kind"], str(entity["values"]), str(entity["errors"] or ""))
    out.print(entities)
    for timeline in summary["timelines"]:
        first, last = (instant(timeline["kind"], timeline[end]) for end in ("first", "last"))
        out.print(f"  [dim]{escape(timeline['name'])}: {first}{'' if first == last else f' to {last}'}[/]")
    out.print()
