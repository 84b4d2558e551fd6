"""`lumatile export`: write a recording to files that other tools read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from lumatile_service.cli.output import Json, StorePath, console, print_json, size, table

if TYPE_CHECKING:
    from lumatile_service.export import Exported

LINE_SECONDS = 5.0
"""The time between two progress lines, where stderr is not a terminal."""

REASONS = 20
"""The largest number of reasons that are shown."""

NEXT = {
    "rrd": "rerun {}",
    "parquet": "datasets.load_dataset('parquet', data_files='{}/*.parquet'), or lumatile ingest {} --store STORE",
    "images": "datasets.load_dataset('imagefolder', data_dir='{}'), or lumatile ingest {} --store STORE",
}
"""How to read each format."""


def export(
    *,
    store: StorePath,
    recording: Annotated[str, typer.Argument(metavar="RECORDING", help="Recording id; `lumatile ls` shows them.")],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="The file or directory to write, which must be new.")
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="rrd, images or parquet; may be left out for a file named *.rrd."
        ),
    ] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Export only this entity and those below it; may be given several times."),
    ] = None,
    floats: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only for images: write float images and depth as 16-bit png, or as exact npy."
        ),
    ] = "png",
    as_json: Json = False,
) -> None:
    """Write a recording to files: .rrd for Rerun, image files, Parquet for Hugging Face's datasets.

    Error rows and damaged frames are left out. Exits with 1 if there are any.
    """
    from lumatile_service.export.job import export as run
    from lumatile_service.export.job import export_format

    with _lines() if as_json or not sys.stderr.isatty() else _bar() as progress:
        exported = run(
            store, recording, destination, format=format_, entities=entity or None, floats=floats, progress=progress
        )
    name = export_format(format_, destination)
    if as_json:
        print_json({"destination": str(destination), "format": name, **asdict(exported)})
    else:
        _show(exported, destination, name)
    raise typer.Exit(1 if exported.errors else 0)


def _show(exported: Exported, destination: Path, name: str) -> None:
    out = console()
    out.print(f"{escape(str(destination))}: {exported.frames} frames, {size(exported.bytes_out)}")
    for title, reasons in (("left out", exported.left_out), ("not exact", exported.lossy)):
        if reasons:
            rows = table("frames", title, right=("frames",))
            for reason, count in list(reasons.items())[:REASONS]:
                rows.add_row(str(count), escape(reason))
            if len(reasons) > REASONS:
                rows.add_row("", f"and {len(reasons) - REASONS} more reasons")
            out.print()
            out.print(rows)
    out.print(f"\nnext: {escape(NEXT[name].replace('{}', str(destination)))}", soft_wrap=True)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], Any]]:
    columns = (SpinnerColumn(), MofNCompleteColumn(), BarColumn(), TextColumn("frames"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _lines() -> Iterator[Callable[[int, int], Any]]:
    began = said = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= LINE_SECONDS:
            said = now
            rest = (now - began) * (total - done) / done
            print(f"lumatile: {done} of {total} frames, {rest:.0f} s to go", file=sys.stderr, flush=True)

    yield show
