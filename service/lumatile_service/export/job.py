"""An export: a recording of a store into files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from lumatile.errors import InvalidValueError
from lumatile.reading import open_store
from lumatile_service.export.exported import Exported
from lumatile_service.export.frame_file import Floats
from lumatile_service.export.image_folder import write_images
from lumatile_service.export.parquet import write_parquet
from lumatile_service.export.rerun_rrd import write_rrd
from lumatile_service.export.selection import Selection
from lumatile_service.export.tally import ExportTally

Format = Literal["rrd", "images", "parquet"]

Progress = Callable[[int, int], None]
"""Is told (frames done, frames there are)."""


def export(
    store: str | os.PathLike[str],
    recording_id: str | None,
    destination: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    entities: Sequence[str] | None = None,
    floats: str = "png",
    progress: Progress | None = None,
) -> Exported:
    """Write a recording to files that other tools read.

    `store`: path or URL. `recording_id`: None: the only one there is. `destination`: what must not be there yet; it is
    there when all is written. `entities`: paths, each with all below it; None: all.
    `format`: "rrd": a file for Rerun (`write_rrd`); "images": a directory of image files (`write_images`); "parquet": a
    directory of Parquet files with an image column (`write_parquet`); None: "rrd", for a destination that ends so.
    `floats`: what float images and depth become among images: "png", 16 bits, or "npy", exact. `progress`: not with
    "rrd".
    A frame that is an error row, or whose stored bytes are damaged, is left out and counted.
    Raises InvalidValueError for a destination that is there and a format that there is not, NotFoundError for a
    recording or entity, OSError where the destination cannot be written.
    """
    target = Path(destination).absolute()
    chosen = export_format(format, target)
    if floats not in get_args(Floats):
        raise InvalidValueError(f"floats must be one of {', '.join(get_args(Floats))}, not {floats!r}")
    recording = open_store(store).recording(recording_id)
    selection = Selection(recording, entities)
    with _new(target, directory=chosen != "rrd") as path:
        if chosen == "rrd":
            exported = write_rrd(recording, path, entities=None if entities is None else selection.entities)
        else:
            tally = ExportTally(sum(1 for _ in selection), progress)
            if chosen == "images":
                write_images(selection, path, tally, "npy" if floats == "npy" else "png")
            else:
                write_parquet(selection, path, tally)
            exported = tally.exported()
    damaged = {f"a segment is damaged: {why}": 1 for why in recording.damaged.values()}
    return replace(exported, left_out={**exported.left_out, **damaged}, errors=exported.errors + len(damaged))


def export_format(name: str | None, destination: Path) -> Format:
    """The format called `name`; without one what `destination` ends in. Raises InvalidValueError."""
    known: tuple[Format, ...] = get_args(Format)
    if name is None and destination.suffix.lower() == ".rrd":
        return "rrd"
    for each in known:
        if each == name:
            return each
    shown = "None, which only an .rrd file can do without" if name is None else repr(name)
    raise InvalidValueError(f"the format must be one of {', '.join(known)}, not {shown}")


@contextmanager
def _new(target: Path, *, directory: bool) -> Iterator[Path]:
    """A place beside `target` to write to, which becomes `target` at the end; nothing stays of it after an error.

    `directory`: it may be an empty directory that is there.
    """
    if target.exists() and not (directory and target.is_dir() and not any(target.iterdir())):
        raise InvalidValueError(f"the destination must be new, and {target} is there: remove it, or name another")
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".export-{secrets.token_hex(6)}{target.suffix}")
    try:
        yield path
        path.replace(target)
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
