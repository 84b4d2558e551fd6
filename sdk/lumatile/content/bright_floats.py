"""The hint that floats are linear light, for float images that hold 8-bit values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import warn

SAMPLES = 1 << 14
"""About as many values of an image are looked at before all of them are."""


class Hint:
    """The state of the hint in this process."""

    given = False


def hint_at_bright_floats(image: NDArray[Any]) -> None:
    """Warn of a float image whose greatest value is 255, once in a process. Brighter light gives no warning."""
    if Hint.given or image.dtype.kind != "f" or not image.size:
        return
    some = image.reshape(-1)[:: 1 + image.size // SAMPLES]
    if 1 < np.fmax.reduce(some) < 256 and 255 <= np.fmax.reduce(image, axis=None) < 256:
        Hint.given = True
        warn(
            "float images are linear light with 1 as white, and this one reaches 255: log values of 0-255 as uint8, "
            "image.astype(np.uint8) (said once)"
        )
