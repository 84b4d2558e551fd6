"""Exports: a recording of a store is written to files."""

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
"""A function that is called with (frames done, number of frames)."""


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

    A frame that is an error row, or whose stored bytes are damaged, is left out and counted.

    Args:
        store: The path or URL of the store.
        recording_id: The recording; None: the only one in the store.
        destination: A path that must not exist yet, or an empty directory for the formats that write one; it appears
            when everything is written.
        format: "rrd": a file for Rerun (`write_rrd`); "images": a directory of image files (`write_images`);
            "parquet": a directory of Parquet files with an image column (`write_parquet`); None: "rrd", if the
            destination ends with ".rrd".
        entities: Entity paths, each with everything below it; None: all.
        floats: The files of float images and float depth in the format "images": "png", 16 bits, or "npy", exact.
        progress: Called with (frames done, number of frames) after each frame; not with "rrd".

    Returns:
        The counts of what was written and left out.

    Raises:
        InvalidValueError: The destination exists, or the format or `floats` is not one of the above, or rerun-sdk is
            not installed.
        NotFoundError: The recording or an entity does not exist.
        OSError: The destination cannot be written.
    """
    target = Path(destination).expanduser().absolute()
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
    """Return the format called `name`; None: the one that `destination` ends with. Raises InvalidValueError."""
    known: tuple[Format, ...] = get_args(Format)
    if name is None and destination.suffix.lower() == ".rrd":
        return "rrd"
    for each in known:
        if each == name:
            return each
    shown = "None, which needs a destination that ends with .rrd" if name is None else repr(name)
    raise InvalidValueError(f"the format must be one of {', '.join(known)}, not {shown}")


@contextmanager
def _new(target: Path, *, directory: bool) -> Iterator[Path]:
    """Give a path next to `target` to write to; it is renamed to `target` at the end, and removed after an error.

    `directory`: `target` may be an existing empty directory.
    """
    if target.exists() and not (directory and target.is_dir() and not any(target.iterdir())):
        raise InvalidValueError(f"the destination must not exist yet, and {target} does: remove it, or name another")
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
