"""Parquet files whose rows hold image files, such as those of Hugging Face's datasets.

As `datasets` writes them (docs "Dataset features" and "Create an image dataset"; features/image.py): an `Image` column
is a struct of `bytes`, the image file, and `path`, its name, either of which may be null. The schema's metadata has
JSON under the key `huggingface`, with features of the columns: {"info": {"features": {"image": {"_type": "Image"}}}}.
A `ClassLabel` column has integers, its feature the `names` of them, and -1 means no label. A list of images has the
feature {"_type": "List", "feature": {"_type": "Image"}}, "Sequence" in older files.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lumatile.content.extensions import extension_json
from lumatile.errors import ImageFileError, InvalidValueError
from lumatile_service.batch.formats.contents import image_file, looks_like_image
from lumatile_service.batch.formats.image_folder import SUFFIXES
from lumatile_service.batch.log_call import LogCall, entity_or, refused
from lumatile_service.batch.source_files import SourceFiles

TIMELINE = "row"

BATCH_BYTES = 8 << 20
"""The approximate size of a batch in memory, uncompressed, if no row or page is larger."""

BATCH_ROWS = 64
"""The most rows of a batch: equal values are stored once in the file, but take more in memory."""

READ_BYTES = 1 << 20
"""The size of the pieces in which a column is read, in bytes."""

LISTS = ("List", "LargeList", "Sequence")
"""The names of features that are lists."""

BESIDE = (".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".csv")
"""Suffixes of texts that may lie next to the Parquet files of a dataset."""


def matches(files: SourceFiles) -> bool:
    """Return whether all files are Parquet, except for texts next to them."""
    return bool(files.under("", ".parquet")) and all(
        path.lower().endswith((".parquet", *BESIDE)) for path in files.sizes
    )


def read(files: SourceFiles) -> Iterator[LogCall]:
    """List each image of each row at the entity "<column>", in a directory "<directory>/<column>".

    The sequence "row" has the row's number among all rows of the directory. Images are the values of `Image` columns,
    of lists of them (at "<column>/0", "<column>/1" ...), and of columns of binaries, or of structs with `bytes`, whose
    first values are image files. Columns of integers, floats, booleans and strings become extension components of the
    row's images: {"label": 3, "label_name": "cat"}. Null images are left out. An image that is a path is read from the
    source, relative to the Parquet file or to the top. A file or row group that cannot be read becomes an error row;
    what was read of it before is logged. Raises InvalidValueError if no file has a column of images.
    """
    rows: Counter[str] = Counter()
    found = False
    for path in files.under("", ".parquet"):
        directory = path.rpartition("/")[0]
        try:
            with files.open(path) as opened, pq.ParquetFile(opened, buffer_size=READ_BYTES, pre_buffer=False) as table:
                first = rows[directory]
                rows[directory] += table.metadata.num_rows
                for call in _File(files, path, table, first).calls():
                    found = True
                    yield call
        except Exception as e:  # noqa: BLE001 - Arrow raises many kinds, and one file must not end the job
            found = True
            yield _unreadable(files, path, None, e)
    if not found:
        raise InvalidValueError(f"no Parquet file of {files.url} has a column of images")


def _unreadable(files: SourceFiles, path: str, member: str | None, error: Exception) -> LogCall:
    reason = f"the Parquet file cannot be read{f' in {member}' if member else ''}: {type(error).__name__}: {error}"
    return LogCall(
        entity_path=path.rpartition("/")[0] or files.name,
        kind="image",
        uri=files.uri(path),
        member=member,
        read=partial(refused, ImageFileError(reason)),
        log=image_file,
    )


class _File:
    """Lists the images of one file."""

    def __init__(self, files: SourceFiles, path: str, table: pq.ParquetFile, first: int) -> None:
        """Read the columns. `first`: the number of the file's first row in its directory."""
        self._files = files
        self._path = path
        self._directory = path.rpartition("/")[0]
        self._table = table
        self._first = first
        self._features = _features(table.schema_arrow.metadata)
        self._columns = _SourceColumns(table.schema_arrow, self._features)

    def calls(self) -> Iterator[LogCall]:
        """Yield the images of the file; for a row group that cannot be read, an error row."""
        columns = [*self._columns.images, *self._columns.labels]
        start = 0
        for i in range(self._table.num_row_groups if self._columns.images else 0):
            group = self._table.metadata.row_group(i)
            number = start
            start += group.num_rows
            try:
                for batch in self._table.iter_batches(_batch_rows(group), [i], columns):
                    yield from self._batch(batch, number)
                    number += batch.num_rows
            except Exception as e:  # noqa: BLE001
                yield _unreadable(self._files, self._path, f"row_group={i}", e)

    def _batch(self, batch: pa.RecordBatch, number: int) -> Iterator[LogCall]:
        """Yield the images of rows, of which the first is row `number` of the file."""
        self._columns.look(batch)
        images = [(name, batch.column(name)) for name, known in self._columns.images.items() if known]
        labels = {name: batch.column(name).to_pylist() for name in self._columns.labels} if images else {}
        for i in range(batch.num_rows):
            ext = _ext({name: values[i] for name, values in labels.items()}, self._features)
            for entity, part, value in _items(images, i):
                content, image_path = _bytes_and_path(value)
                read: Callable[[], bytes]
                if content is not None:
                    read, nbytes = partial(bytes, content), len(content)
                elif image_path is not None:
                    read, nbytes = self._file_at(image_path)
                else:
                    continue
                yield LogCall(
                    entity_path=f"{self._directory}/{entity}" if self._directory else entity,
                    kind="image",
                    uri=self._files.uri(self._path),
                    member=f"row={number + i},{part}",
                    read=read,
                    log=partial(image_file, ext=ext),
                    beside=(extension_json(ext) or "").encode(),
                    nbytes=nbytes,
                    sequences={TIMELINE: self._first + number + i},
                )

    def _file_at(self, path: str) -> tuple[Callable[[], bytes], int]:
        """Return a function that reads the file at the path in a row, and the size of the file."""
        files = self._files
        for tried in (posixpath.normpath(posixpath.join(self._directory, path)), posixpath.normpath(path)):
            if tried in files.sizes:
                return partial(files.read, tried), files.sizes[tried]
        reason = f"the row's image is the file {path!r:.200}, which the source does not have"
        return partial(refused, ImageFileError(reason)), 0


class _SourceColumns:
    """The columns that are read."""

    def __init__(self, schema: pa.Schema, features: Mapping[str, Any]) -> None:
        self.images: dict[str, bool | None] = {}
        """Column that holds or may hold images -> whether it does; None: its values will tell."""
        self.labels: list[str] = []
        for field in schema:
            kind = _type(features.get(field.name))
            if kind == "Image" or (kind in LISTS and _type(features[field.name].get("feature")) == "Image"):
                self.images[field.name] = True
            elif _is_label(field.type):
                self.labels.append(field.name)
            elif kind in (None, "Value") and _may_be_images(field.type):
                self.images[field.name] = None

    def look(self, batch: pa.RecordBatch) -> None:
        """Decide by the first values which of the undecided columns hold images."""
        for name, known in self.images.items():
            if known is None:
                pairs = map(_bytes_and_path, batch.column(name).to_pylist())
                values = [pair for pair in pairs if pair != (None, None)]
                if values:
                    self.images[name] = any(
                        looks_like_image(content) if content is not None else str(path).lower().endswith(SUFFIXES)
                        for content, path in values
                    )


def _type(feature: Any) -> Any:
    """Return the type of a feature, "Image" for example; None: it has none."""
    return feature.get("_type") if isinstance(feature, dict) else None


def _may_be_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and (_is_binary(kind.field(at).type) or pa.types.is_null(kind.field(at).type))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(test(kind) for test in tests)


def _features(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """Return column -> its feature; empty if the file has no features, or none that can be read."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _ext(labels: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the labels of a row, and the names of those that are classes; None: there are none."""
    names = {}
    for column, value in labels.items():
        known = features[column].get("names") if _type(features.get(column)) == "ClassLabel" else None
        if isinstance(known, list) and isinstance(value, int) and 0 <= value < len(known):
            names[f"{column}_name"] = str(known[value])
    return {**names, **labels} or None


def _items(images: Sequence[tuple[str, pa.Array]], row: int) -> Iterator[tuple[str, str, Any]]:
    """Yield entity, part of the row, and value, of each image of a row."""
    for place, (name, values) in enumerate(images):
        entity = entity_or(name, f"column{place}")
        value = values[row].as_py()
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield f"{entity}/{number}", f"column={name},item={number}", item
        else:
            yield entity, f"column={name}", value


def _bytes_and_path(value: Any) -> tuple[bytes | None, str | None]:
    """Return the image file and the path in a value of a column of images, None for what is missing."""
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        return content if isinstance(content, bytes) else None, path if isinstance(path, str) else None
    return value if isinstance(value, bytes) else None, value if isinstance(value, str) else None


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    row_bytes = group.total_byte_size / max(1, group.num_rows)
    return int(min(BATCH_ROWS, max(1, BATCH_BYTES / max(1, row_bytes))))
