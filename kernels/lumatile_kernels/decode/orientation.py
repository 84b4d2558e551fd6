"""EXIF orientation: reading it, and turning pictures upright."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

_ORIENTATION_TAG = 0x0112
_SHORT = 3


def read_orientation(exif: bytes) -> int:
    """Return the orientation (1 ... 8) that a TIFF-structured EXIF block states, or 1 (upright) if it states none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return value if (kind, count) == (_SHORT, 1) and 1 <= value <= 8 else 1
    except struct.error:  # the block ends early, but it is only metadata: the picture may be complete
        pass
    return 1


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of `image`, shape (h, w, c), turned upright as EXIF orientation 1 ... 8 requires."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    # these orientations reverse an axis of the image as it is now
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
