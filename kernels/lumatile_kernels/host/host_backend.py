"""The part that all backends that compute on the host have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, OffHost, allocate_array


class HostBackend:
    """A backend that takes one frame at a time from the memory of the host; see `Backend`."""

    device = None
    ahead_bytes = 0
    pin = None

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """Return `array`, or a copy on the host; see `Backend.admit`."""
        return array if isinstance(array, np.ndarray) else array.host(allocate)

    def is_opaque(self, image: NDArray[np.uint8]) -> bool:
        """Return whether every pixel has the alpha 255; see `Backend.is_opaque`."""
        return bool((image[..., 3] == 255).all())
