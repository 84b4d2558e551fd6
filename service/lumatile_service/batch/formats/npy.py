"""Numpy's .npy files that hold numbers: nothing in them is ever unpickled.

The format is documented in numpy.lib.format: a magic, a header with dtype, order and shape, and the array's bytes.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import ImageFileError, shown

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version -> function that reads its header. Version 3 is only for names of fields."""


@dataclass(frozen=True, kw_only=True)
class NpyHeader:
    """The header of a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    nbytes: int
    """The size of the header in bytes: the array begins there."""


def npy_header(content: bytes) -> NpyHeader:
    """Return the header of a file. Raises ImageFileError."""
    opened = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(opened)
        shape, fortran_order, dtype = HEADERS[version](opened)
    except Exception as e:
        raise ImageFileError(f"the .npy file has no header of version 1 or 2: {type(e).__name__}: {shown(e)}") from e
    return NpyHeader(shape=shape, dtype=dtype, fortran_order=fortran_order, nbytes=opened.tell())


def npy_array(content: bytes, pixel_limit: int) -> NDArray[Any]:
    """Return the array of a file, (h, w) or (h, w, channels), of numbers. Raises ImageFileError."""
    header = npy_header(content)
    if header.dtype.kind not in "buif":
        raise ImageFileError(f"a .npy file must be of numbers, not {header.dtype}")
    if math.prod(header.shape[:2]) > pixel_limit:
        raise ImageFileError(f"{header.shape} are more pixels than the limit of {pixel_limit}")
    count = math.prod(header.shape)
    if len(content) - header.nbytes != count * header.dtype.itemsize:
        found = len(content) - header.nbytes
        raise ImageFileError(f"a .npy file of {header.shape} {header.dtype} must not have {found} bytes of numbers")
    flat = np.frombuffer(content, header.dtype, count, header.nbytes).astype(header.dtype.newbyteorder("="), copy=False)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")
