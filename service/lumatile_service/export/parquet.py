"""Parquet files with an `Image` column, as Hugging Face's `datasets` reads and writes them.

Its docs "Dataset features" and its features/image.py: a struct of `bytes`, the image file, and `path`, its name; the
schema's metadata has under the key `huggingface` JSON with each column's feature. Files are called
<split>-<number>-of-<count>.parquet and take about 500 MB (config.MAX_SHARD_SIZE), their row groups less than 100 MB
(config.MAX_ROW_GROUP_SIZE) and, where there are images, 100 rows (arrow_writer.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lumatile.read.frame import Frame
from lumatile.values import Kind
from lumatile_service.export.classes import Classes
from lumatile_service.export.extension_columns import ExtensionColumns
from lumatile_service.export.file_names import FileNames, directory_name, whole_number
from lumatile_service.export.frame_file import FrameFile, frame_files
from lumatile_service.export.selection import Selection
from lumatile_service.export.tally import ExportTally

SHARD_BYTES = 500_000_000
GROUP_ROWS = 100
GROUP_BYTES = 64 << 20
"""The most bytes of files in a row group, which is held in memory."""

PICTURES: tuple[Kind, ...] = ("image", "depth", "segmentation")

TIMELINES = {"sequence": pa.int64(), "time": pa.timestamp("ns")}

DICTIONARIES = ["entity_path", "kind", "classes"]
"""Columns whose values are often equal: each value is stored once."""

LARGEST = 2**31 - 2
"""The most bytes of a value in an Arrow binary column."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PROVENANCE = pa.struct([("uri", pa.string()), ("member", pa.string()), ("content_hash", pa.string())])


def write_parquet(selection: Selection, folder: Path, tally: ExportTally) -> None:
    """Write train-00000-of-0000N.parquet ..., one row for each image, depth image and segmentation.

    Rows are sorted by entity, then in log order. Columns:

    - `image`: the file that `frame_file` returns, JPEG as it is or PNG
    - `entity_path`, `kind`, `timeless`, `provenance`
    - `times`: a struct with a field for each timeline, int64 or timestamp[ns]; null if a frame is not on it
    - `meter`: the units per metre of a depth image's values
    - `classes`: of a segmentation, JSON: [{"id": 1, "label": "car", "color": [255, 0, 0, 255]}]
    - the extension components (`ExtensionColumns`)

    Points have no place here. Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    columns = _ExportColumns(selection)
    classes = Classes()
    shards = _Shards(folder, columns, tally)
    for entity in selection.entities:
        names = FileNames(selection.of(entity))
        directory = directory_name(entity)
        for frame, file in frame_files(selection.of(entity), tally, kinds=PICTURES):
            if len(file.content) > LARGEST:
                tally.left_out(f"a value of an image column may have {LARGEST} bytes", error=False)
                continue
            name = f"{directory}/{names.of(frame)}{file.suffix}"
            key = classes.key_of(frame)
            described = None if key is None else json.dumps(classes.found[key]["classes"])
            shards.add(columns.row(frame, file, name, described), len(file.content))
            tally.wrote(lossy=file.lossy)
    shards.close()


class _ExportColumns:
    """The columns of the table, and the row of a frame."""

    def __init__(self, selection: Selection) -> None:
        """Read the extension components of all frames."""
        timelines = selection.recording.timelines()
        own = {
            "image": IMAGE,
            "entity_path": pa.string(),
            "kind": pa.string(),
            "times": pa.struct([(name, TIMELINES[timelines[name]]) for name in sorted(timelines)]),
            "timeless": pa.bool_(),
            "meter": pa.float64(),
            "classes": pa.string(),
            "provenance": PROVENANCE,
        }
        self._ext = ExtensionColumns((frame.ext for frame in selection if frame.kind in PICTURES), reserved=own)
        self.types = own | self._ext.types
        """Name of each column -> its type."""

    def row(self, frame: Frame, file: FrameFile, name: str, classes: str | None) -> dict[str, Any]:
        """Return the row of a frame: column -> value."""
        return {
            "image": {"bytes": file.content, "path": name},
            "entity_path": frame.entity_path,
            "kind": frame.kind,
            "times": {timeline: whole_number(value) for timeline, value in frame.times.items()},
            "timeless": frame.timeless,
            "meter": file.meter,
            "classes": classes,
            "provenance": frame.provenance,
        } | self._ext.row(frame.ext)

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        """Return rows as an Arrow batch, with the metadata that `datasets` looks for."""
        batch = pa.RecordBatch.from_struct_array(pa.array(rows, pa.struct(list(self.types.items()))))
        features = {"image": {"_type": "Image"}} | {
            name: _feature(kind) for name, kind in self.types.items() if name != "image"
        }
        return batch.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


class _Shards:
    """Writes the Parquet files, one after another."""

    def __init__(self, folder: Path, columns: _ExportColumns, tally: ExportTally) -> None:
        """Begin without files. `tally` counts their sizes."""
        self._folder = folder
        self._columns = columns
        self._tally = tally
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        """The size of the image files in `_rows`, in bytes."""
        self._writer: pq.ParquetWriter | None = None
        self._paths: list[Path] = []
        self._shard_bytes = 0

    def add(self, row: dict[str, Any], nbytes: int) -> None:
        """Add a row whose image file has `nbytes` bytes. Raises OSError."""
        if self._rows and self._row_bytes + nbytes > GROUP_BYTES:
            self._write_group()
        self._rows.append(row)
        self._row_bytes += nbytes
        if len(self._rows) == GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Write the remaining rows, and rename the files; without any row, there is one empty file."""
        if self._rows or not self._paths:
            self._write_group()
        self._close_shard()
        for number, path in enumerate(self._paths):
            path.rename(self._folder / f"train-{number:05d}-of-{len(self._paths):05d}.parquet")

    def _write_group(self) -> None:
        batch = self._columns.batch(self._rows)
        if self._shard_bytes and self._shard_bytes + self._row_bytes > SHARD_BYTES:
            self._close_shard()
        if self._writer is None:
            self._paths.append(self._folder / f"train-{len(self._paths):05d}.part")
            self._writer = pq.ParquetWriter(self._paths[-1], batch.schema, use_dictionary=DICTIONARIES)
        self._writer.write_batch(batch, row_group_size=GROUP_ROWS)
        self._shard_bytes += self._row_bytes
        self._rows, self._row_bytes = [], 0

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._tally.wrote_bytes(self._paths[-1].stat().st_size)
            self._writer, self._shard_bytes = None, 0
