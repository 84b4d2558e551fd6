"""Folders of image files, and metadata.jsonl, which describes each file.

`file_name` is the key by which Hugging Face's `imagefolder` finds a file's metadata (docs "Create an image dataset").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lumatile.read.frame import Frame
from lumatile_service.export.classes import Classes
from lumatile_service.export.file_names import FileNames, directory_name
from lumatile_service.export.frame_file import Floats, FrameFile, frame_files
from lumatile_service.export.selection import Selection
from lumatile_service.export.tally import ExportTally

METADATA = "metadata.jsonl"
CLASSES = "classes.json"


def write_images(selection: Selection, folder: Path, tally: ExportTally, floats: Floats = "png") -> None:
    """Write each frame to `<entity path>/<name>` in `folder`: .jpg, .png, .npy or .ply, as `frame_file` says.

    Names sort as times do: frame_000042.png (`FileNames`). metadata.jsonl has a line for each file: `file_name`,
    `entity_path`, `kind`, `times` (sequence numbers; times as ISO 8601, UTC, in nanoseconds), `timeless`, `shape` and
    `dtype` as logged, and if there are any `meter` (depth: units per metre of the file's values), `classes` (a key in
    classes.json), `ext`, `provenance`, `lossy` (what is lost in the file). Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    classes = Classes()
    with (folder / METADATA).open("w", encoding="utf-8") as metadata:
        for entity in selection.entities:
            names = FileNames(selection.of(entity))
            directory = directory_name(entity)
            for frame, file in frame_files(selection.of(entity), tally, floats=floats):
                name = f"{directory}/{names.of(frame)}{file.suffix}"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
                line = json.dumps({"file_name": name} | _described(frame, file, classes.key_of(frame)))
                metadata.write(line + "\n")
                tally.wrote_bytes(len(file.content) + len(line) + 1)
                tally.wrote(lossy=file.lossy)
    if classes.found:
        text = json.dumps(classes.found, indent=1)
        (folder / CLASSES).write_text(text, encoding="utf-8")
        tally.wrote_bytes(len(text))


def _described(frame: Frame, file: FrameFile, classes: str | None) -> dict[str, Any]:
    always = {
        "entity_path": frame.entity_path,
        "kind": frame.kind,
        "times": {
            name: np.datetime_as_string(value, unit="ns") if isinstance(value, np.datetime64) else value
            for name, value in frame.times.items()
        },
        "timeless": frame.timeless,
        "shape": frame.shape,
        "dtype": None if frame.dtype is None else frame.dtype.name,
    }
    given = {
        "meter": file.meter,
        "classes": classes,
        "ext": frame.ext,
        "provenance": frame.provenance,
        "lossy": file.lossy,
    }
    return always | {name: value for name, value in given.items() if value is not None}
