"""`lumatile verify`: check that all bytes of a store are those that were written."""

from __future__ import annotations

from typing import Any

import typer
from rich.markup import escape

from lumatile.read.verify import Report
from lumatile.read.verify import verify as verify_store
from lumatile_service.cli.output import Json, StorePath, console, print_json, size


def verify(store: StorePath, *, as_json: Json = False) -> None:
    """Compare all checksums of a store.

    Names everything that is broken, and exits with 1 then.
    """
    report = verify_store(store)
    if as_json:
        print_json(_as_json(store, report))
    else:
        _show(store, report)
    raise typer.Exit(0 if report.ok else 1)


def _as_json(store: str, report: Report) -> dict[str, Any]:
    return {
        "store": store,
        "ok": report.ok,
        "recordings": report.recordings,
        "segments": report.segments,
        "frames": report.frames,
        "tiles": report.tiles,
        "bytes": report.nbytes,
        "duplicates": report.duplicates,
        "dropped": report.dropped,
        "garbage": [str(path) for path in report.garbage],
        "problems": [
            {
                "path": str(problem.path),
                "frame": problem.frame,
                "entity_path": problem.entity_path,
                "tile": problem.tile,
                "what": problem.what,
            }
            for problem in report.problems
        ],
    }


def _show(store: str, report: Report) -> None:
    out = console()
    for problem in report.problems:
        out.print(f"[red]broken[/] {escape(str(problem))}", soft_wrap=True)
    for path in report.garbage:
        unfinished = (
            f"[yellow]unfinished[/] {escape(str(path))}: left by a writer that died, or that is still working; harmless"
        )
        out.print(unfinished, soft_wrap=True)
    out.print(
        f"{escape(store)}: {report.recordings} recordings, {report.segments} segments, {report.frames} frames, "
        f"{report.tiles} tiles, {size(report.nbytes)} read"
    )
    for count, what in ((report.duplicates, "values stored twice"), (report.dropped, "values dropped by full queues")):
        if count:
            out.print(f"{count} {what}")
    out.print("[green]all checksums hold[/]" if report.ok else f"[red]{len(report.problems)} problems[/]")
