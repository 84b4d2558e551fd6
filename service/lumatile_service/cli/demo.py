"""`lumatile demo`: log real data, then draw the stored frames."""

from __future__ import annotations

import secrets
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import lumatile as lt
from lumatile_service.cli.output import Json, console, print_json, size
from lumatile_service.demo.log_demo import STEPS, log_demo

NEEDED = {"skimage": "scikit-image", "sklearn": "scikit-learn", "PIL": "pillow"}


def demo(
    *,
    store: Annotated[str, typer.Option(metavar="DIR", help="The store to log to.")] = "demo-store",
    pictures: Annotated[Path, typer.Option(metavar="DIR", help="The directory to write the pictures to.")] = Path(
        "demo-pictures"
    ),
    as_json: Json = False,
) -> None:
    """Log real data, then write PNG pictures of the stored frames.

    Every run adds a recording of its own to the store.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        print(f"lumatile: the demo's data needs {' '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        raise typer.Exit(2)
    recording_id = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    report = _run(store, recording_id, pictures)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _run(store: str, recording_id: str, pictures: Path) -> dict[str, Any]:
    from lumatile_service.demo.pictures import write_pictures

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn())
    stderr = console(stderr=True)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=STEPS)
        begin = time.perf_counter()
        log_demo(store, recording_id=recording_id, step=lambda what: progress.update(task, description=what, advance=1))
        seconds = time.perf_counter() - begin
        progress.update(task, description="pictures")
        files = write_pictures(store, recording_id, pictures)
    info = next(info for info in lt.open_store(store).recordings() if info.recording_id == recording_id)
    return {
        "store": store,
        "recording_id": recording_id,
        "seconds": round(seconds, 3),
        "bytes": info.nbytes,
        "segments": info.segments,
        "pictures": [{"file": str(path), "bytes": path.stat().st_size} for path in files],
    }


def _show(report: dict[str, Any]) -> None:
    out = console()
    store, recording_id = report["store"], report["recording_id"]
    out.print(
        f"logged recording [bold]{recording_id}[/] to {store}: {size(report['bytes'])} in {report['segments']} "
        f"segments, in {report['seconds']:.1f} s including loading the data\n\npictures of the stored frames:"
    )
    for picture in report["pictures"]:
        out.print(f"  {picture['file']}  [dim]{size(picture['bytes'])}[/]")
    out.print("\nnext:")
    for command in (
        f"ls {store}",
        f"info {store} {recording_id} stereo/left",
        f"verify {store}",
        f"render {store} stereo/points --recording {recording_id} --at frame=2 --yaw 30 -o points.png",
        "doctor",
    ):
        out.print(f"  lumatile {command}", soft_wrap=True)
