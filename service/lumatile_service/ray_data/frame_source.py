"""A recording's frames as a Ray Data dataset."""

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
"""About what a frames row holds in memory."""

BLOCK_BYTES = 32 << 20
"""Content of a block, about."""


class FrameSource(RecordingSource):
    """Rows of frames: `ray.data.read_datasource(FrameSource("runs", "run 1", kinds="image", content="source"))`.

    A row has the columns of `recording.frames_table()`: entity_path, kind, sequences, times, shape, ext, error ...;
    `dict(row["sequences"])` gives the time points. It shows what is committed when it is made, hides what a reader
    hides, and leaves gaps out; error rows are in it. Checksums are compared. Rows come in about log order.

    With content="source" there are two columns more. `content`: exactly what was logged, as `frame.source()` gives it.
    Where all frames that are asked for were logged as arrays of one dtype and number of axes it is a tensor column:
    numpy arrays, of any shapes. Where all are JPEG files it is their bytes. Else, with points for example, it is a
    column of Python objects; ask for less with `entities` and `kinds`.
    `content_error`: why there is none, null where there is one. `content` is an empty array then, in a tensor column,
    else None: an error row, a frame that was logged with keep_source=False, a damaged one.

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
        """The frames of a recording of the store at `store`, a path or URL that all machines of the cluster see.

        `entities`, `kinds`: only of these entity paths and kinds, one or several. `content`: None: the rows alone.
        Raises NotFoundError for a recording or entity that there is not, InvalidValueError for such a kind or content,
        StoreError.
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
    """About the bytes of a frame's content."""
    if dtype == "jpeg":
        return math.prod(shape or ()) // 8
    try:
        itemsize: int = np.dtype(dtype or "uint8").itemsize
    except TypeError:
        return 0
    return math.prod(source_shape or shape or (0,)) * itemsize


def _read(part: Part, columns: Sequence[str], form: ContentForm) -> Iterator[pa.Table]:
    """The blocks of a part."""
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
