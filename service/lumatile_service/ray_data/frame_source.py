"""The frames of a recording as a Ray Data dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lumatile.errors import InvalidValueError
from lumatile.format.schema import FRAMES
from lumatile_service.ray_data.content_form import ContentForm, held
from lumatile_service.ray_data.recording_source import RecordingSource
from lumatile_service.ray_data.snapshot import Part, Snapshot

ROW_BYTES = 512
"""The approximate size of a frames row in memory, in bytes."""

BLOCK_BYTES = 32 << 20
"""The approximate size of the content in a block, in bytes."""


class FrameSource(RecordingSource):
    """A Ray Data source of frames.

    For example `ray.data.read_datasource(FrameSource("runs", "run 1", kinds="image", content="source"))`.

    A row has the columns of `recording.frames_table()`: entity_path, kind, sequences, times, shape, ext, error ...;
    `dict(row["sequences"])` gives the numbers on sequence timelines. The source shows the frames that are committed
    when it is made, without those that a reader hides and without gaps; error rows are included. Checksums are
    verified. Rows come approximately in log order.

    With content="source" there are two more columns. `content` is exactly what was logged, as `frame.source()` returns
    it. If all selected frames were logged as arrays of one dtype and number of axes, it is a tensor column: numpy
    arrays, of any shapes. If all are JPEG files, it is their bytes. Otherwise, with points for example, it is a column
    of Python objects; select less with `entities` and `kinds`.
    `content_error` is the reason why a row has no content: it is an error row or damaged, or it was logged with
    keep_source=False. Then `content` is an empty array in a tensor column, else None. Otherwise it is null.

    `dataset.select_columns([...])` without `content` reads no content.
    """

    def __init__(
        self,
        store: str | PathLike[str],
        recording_id: str,
        *,
        entities: str | Iterable[str] | None = None,
        kinds: str | Iterable[str] | None = None,
        content: Literal["source"] | None = None,
    ) -> None:
        """Choose the frames of a recording.

        Args:
            store: The path or URL of the store; all machines of the cluster must see it.
            recording_id: The recording.
            entities: One or several entity paths whose frames are read; None: all.
            kinds: One or several kinds of frames that are read; None: all.
            content: "source": the columns `content` and `content_error` are added; None: only the frames rows are read.

        Raises:
            NotFoundError: The recording or an entity does not exist.
            InvalidValueError: A kind or `content` is not one of the allowed values.
            StoreError: The store cannot be read.
        """
        if content not in (None, "source"):
            raise InvalidValueError(f"content must be None or 'source', not {content!r}")
        snapshot = Snapshot(store, recording_id, entities=entities, kinds=kinds)
        super().__init__(snapshot, FRAMES.names if content is None else (*FRAMES.names, "content", "content_error"))
        self._form = ContentForm.of(snapshot.table)

    def _weights(self) -> NDArray[np.int64]:
        weights = np.full(len(self._snapshot), ROW_BYTES, np.int64)
        if "content" in self.columns:
            table = self._snapshot.table
            given = (table[name].to_pylist() for name in ("source_shape", "source_dtype", "shape"))
            weights += [_content_bytes(*each) for each in zip(*given, strict=True)]
        return weights

    def _row_count(self, frames: slice) -> int:
        return int(frames.stop - frames.start)

    def _reader(self, part: Part) -> Callable[[], Iterator[pa.Table]]:
        return partial(_read, part, self.columns, self._form)


def _content_bytes(source_shape: list[int] | None, dtype: str | None, shape: list[int] | None) -> int:
    """Return the approximate size of a frame's content in bytes."""
    if dtype == "jpeg":
        return math.prod(shape or ()) // 8
    try:
        itemsize: int = np.dtype(dtype or "uint8").itemsize
    except TypeError:
        return 0
    return math.prod(source_shape or shape or (0,)) * itemsize


def _read(part: Part, columns: Sequence[str], form: ContentForm) -> Iterator[pa.Table]:
    """Yield the blocks of a part."""
    table, frames = part.read()
    stored = table.select([name for name in columns if name in FRAMES.names])
    added = [name for name in columns if name not in FRAMES.names]
    if not added:
        yield stored
        return
    first, contents, errors, nbytes = 0, [], [], 0
    for i, frame in enumerate(frames):
        content, error = form.content_of(frame)
        contents.append(content)
        errors.append(error)
        nbytes += ROW_BYTES + held(content)
        if nbytes >= BLOCK_BYTES or i == len(frames) - 1:
            block = stored.slice(first, len(contents))
            for name in added:
                column = form.column(contents) if name == "content" else pa.array(errors, pa.string())
                block = block.append_column(name, column)
            yield block
            first, contents, errors, nbytes = i + 1, [], [], 0
