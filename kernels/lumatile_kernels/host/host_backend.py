"""What all backends that compute on the host have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, OffHost, allocate_array


class HostBackend:
    """Takes one frame at a time, from the host's memory; see `Backend`."""

    device = None
    ahead_bytes = 0
    pin = None

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """See Backend."""
        return array if isinstance(array, np.ndarray) else array.host(allocate)

    def is_opaque(self, image: NDArray[np.uint8]) -> bool:
        """See Backend."""
        return bool((image[..., 3] == 255).all())
