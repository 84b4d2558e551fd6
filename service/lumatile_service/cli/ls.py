"""`lumatile ls`: list the recordings of a store."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

import lumatile as lt
from lumatile_service.cli.output import Json, StorePath, console, instant, print_json, size, table
from lumatile_service.show.recording_summary import summarise


def ls(store: StorePath, *, as_json: Json = False) -> None:
    """List the recordings of a store, with their entities, kinds, counts, bytes and times."""
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
    """Print a recording for people."""
    out = console()
    out.print(
        f"[bold]{escape(summary['recording_id'])}[/] of {escape(summary['application_id'])}: "
        f"{summary['values']} values, {size(summary['bytes'])} in {summary['segments']} segments"
    )
    for count, one, many in (
        (summary["errors"], "error", "errors"),
        (summary["dropped"], "dropped value", "dropped values"),
        (len(summary["damaged_segments"]), "damaged segment", "damaged segments"),
    ):
        if count:
            out.print(f"  [red]{count} {one if count == 1 else many}[/]")
    entities = table("  entity", "kind", "values", "errors", right=("values", "errors"))
    for entity in summary["entities"]:
        path = entity["entity_path"] or "/"
        entities.add_row(f"  {escape(path)}", entity["kind"], str(entity["values"]), str(entity["errors"] or ""))
    out.print(entities)
    for timeline in summary["timelines"]:
        first, last = (instant(timeline["kind"], timeline[end]) for end in ("first", "last"))
        out.print(f"  [dim]{escape(timeline['name'])}: {first}{'' if first == last else f' to {last}'}[/]")
    out.print()
