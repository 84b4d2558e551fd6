"""Class ids of wide integer types on a GPU, as returned by torch's argmax: narrowed there, and checked later."""

from __future__ import annotations

import numpy as np

from lumatile_kernels.cuda.sources import narrow_kernel
from lumatile_kernels.device import Borrowed, Device, Stream

IDS = np.dtype(
    [("wide", np.uint64), ("narrow", np.uint64), ("count", np.int64), ("outside", np.uint64)],
    align=True,
)
"""The struct Ids of ids.cu."""

OUTSIDE_BYTES = 16
IDS_PER_BLOCK = 1 << 14


def is_wide(dtype: np.dtype[np.generic]) -> bool:
    """Return whether ids of `dtype` are of an integer type other than uint8 and uint16."""
    return dtype.kind in "iu" and dtype not in (np.uint8, np.uint16)


def narrow_ids(device: Device, wide: Borrowed, to: int, outside: int, stream: Stream) -> None:
    """Enqueue a kernel that writes ids as uint16 to `to`, and ids that do not fit to `outside`. Raises DeviceError.

    `outside`: the address of OUTSIDE_BYTES bytes.
    """
    count = int(np.prod(wide.shape, dtype=np.int64))
    arguments = np.zeros(1, IDS)
    arguments["wide"], arguments["narrow"] = wide.pointer, to
    arguments["count"], arguments["outside"] = count, outside
    device.zero(outside, OUTSIDE_BYTES, stream)
    device.launch(narrow_kernel(wide.dtype), arguments, -(-count // IDS_PER_BLOCK), stream)
