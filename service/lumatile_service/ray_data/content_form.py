"""The form in which the content of frames becomes a column: all blocks of a dataset must have the same type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from ray.data.block import BlockAccessor
from ray.data.extensions import ArrowPythonObjectArray

from lumatile.errors import LumatileError
from lumatile.read.frame import Frame
from lumatile.values import DATA_KINDS


@dataclass(frozen=True, kw_only=True)
class ContentForm:
    """The form of a column of content."""

    kind: Literal["tensor", "bytes", "object"]
    """Arrays of one dtype and number of axes; the bytes of image files; or any objects, pickled."""
    dtype: str = "uint8"
    """The dtype of tensors."""
    ndim: int = 0
    """The number of axes of tensors."""

    @staticmethod
    def of(table: pa.Table) -> ContentForm:
        """Return the form that suits all frames of a table (schema FRAMES) that have content."""
        names = ("kind", "source_dtype", "source_shape", "source", "error")
        forms = {
            _form(kind, dtype, shape)
            for kind, dtype, shape, source, error in zip(*(table[name].to_pylist() for name in names), strict=True)
            if error is None and not (kind in DATA_KINDS and source == "none")
        }
        return forms.pop() if len(forms) == 1 else ContentForm(kind="object")

    def content_of(self, frame: Frame) -> tuple[Any, str | None]:
        """Return the logged content of a frame, or an empty one and the reason why it cannot be read."""
        if frame.error is not None:
            return self._nothing, frame.error
        try:
            return frame.source(), None
        except LumatileError as e:  # damaged, or not kept: the other frames are still read
            return self._nothing, f"{type(e).__name__}: {e}"

    def column(self, contents: Sequence[Any]) -> Any:
        """Return an Arrow array of contents that `content_of` returned."""
        if self.kind == "tensor":
            return BlockAccessor.batch_to_arrow_block({"content": list(contents)})["content"]
        if self.kind == "bytes":
            return pa.array(contents, pa.large_binary())
        return ArrowPythonObjectArray.from_objects(list(contents))

    @property
    def _nothing(self) -> Any:
        return np.zeros((0,) * self.ndim, self.dtype) if self.kind == "tensor" else None


def held(content: Any) -> int:
    """Return the approximate size of a content in memory, in bytes."""
    if isinstance(content, np.ndarray):
        return content.nbytes
    if isinstance(content, dict):
        return sum(held(value) for value in content.values())
    return len(content) if isinstance(content, bytes | str | list) else 0


def _form(kind: str, dtype: str | None, shape: Sequence[int] | None) -> ContentForm:
    if dtype == "jpeg":
        return ContentForm(kind="bytes")
    if kind in ("image", "depth", "segmentation") and dtype is not None and shape is not None:
        return ContentForm(kind="tensor", dtype=dtype, ndim=len(shape))
    return ContentForm(kind="object")
