"""Class ids of wide integer types on a GPU, as torch's argmax gives them: narrowed there, and checked later."""

from __future__ import annotations

import numpy as np

from lumatile_kernels.cuda.sources import narrow_kernel
from lumatile_kernels.device import Borrowed, Device, Stream

IDS = np.dtype(
    [("wide", np.uint64), ("narrow", np.uint64), ("count", np.int64), ("outside", np.uint64)],
    align=True,
)
"""struct Ids of ids.cu."""

OUTSIDE_BYTES = 16
IDS_PER_BLOCK = 1 << 14


def is_wide(dtype: np.dtype[np.generic]) -> bool:
    """Whether ids of `dtype` have to be narrowed to be uint8 or uint16."""
    return dtype.kind in "iu" and dtype not in (np.uint8, np.uint16)


def narrow_ids(device: Device, wide: Borrowed, to: int, outside: int, stream: Stream) -> None:
    """Enqueue: write ids as uint16 to `to`, and what does not fit to `outside`, OUTSIDE_BYTES. Raises DeviceError."""
    count = int(np.prod(wide.shape, dtype=np.int64))
    arguments = np.zeros(1, IDS)
    arguments["wide"], arguments["narrow"] = wide.pointer, to
    arguments["count"], arguments["outside"] = count, outside
    device.zero(outside, OUTSIDE_BYTES, stream)
    device.launch(narrow_kernel(wide.dtype), arguments, -(-count // IDS_PER_BLOCK), stream)
