"""The host backend of "auto": numpy for the first texels, numba for the rest."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, Backend, BackendName, PointOrder, TileBlock, TileFormat, allocate_array
from lumatile_kernels.fork import LOCK
from lumatile_kernels.host.host_backend import HostBackend
from lumatile_kernels.host.numpy_backend import NumpyBackend

log = logging.getLogger(__name__)

NUMPY_TEXELS = 1 << 21
"""The texels or points that numpy computes before numba is imported. The import, with the first calls, takes a second,
as numpy takes for some 10 million texels; numba is ten times as fast."""


class SparingBackend(HostBackend):
    """A backend that imports numba when so much was computed that this pays; see `Backend`.

    A process that logs a few small pictures never imports it.
    """

    name: BackendName = "numba"

    def __init__(self, threads: int | None = None) -> None:
        """Compute with `threads` threads, as `NumbaBackend` does."""
        self._threads = threads
        self._backend: Backend = NumpyBackend()
        self._left: float = NUMPY_TEXELS

    def image(
        self, image: NDArray[Any], *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return plane `pixels` of an image; see `Backend.image`."""
        return self._for(image).image(image, tile_format=tile_format, allocate=allocate)

    def depth(self, depth: NDArray[Any], *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Return plane `pixels` of a depth image; see `Backend.depth`."""
        return self._for(depth).depth(depth, meter=meter, allocate=allocate)

    def segmentation(
        self, ids: NDArray[Any], *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return planes `ids` and `colors` of a segmentation; see `Backend.segmentation`."""
        return self._for(ids).segmentation(ids, palette=palette, allocate=allocate)

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Return the order of a cloud; see `Backend.points`."""
        return self._for(positions[:, 0]).points(positions)

    def _for(self, array: NDArray[Any]) -> Backend:
        """Return the backend that computes `array`, whose first two axes are those of its texels."""
        self._left -= math.prod(array.shape[:2])
        if self._left < 0:
            self._left = math.inf
            with LOCK:  # a child could never import what this thread was importing
                try:
                    from lumatile_kernels.host.numba_backend import NumbaBackend
                except ImportError as e:
                    log.warning("numba cannot be imported, so numpy computes, about ten times as slowly: %s", e)
                    self.name = "numpy"
                else:
                    self._backend = NumbaBackend(self._threads)
        return self._backend
