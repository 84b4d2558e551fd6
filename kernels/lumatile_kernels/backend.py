"""The protocol of backends, and the values that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.device import Device
from lumatile_kernels.layout import TileIndex

TileFormat = Literal["linear", "srgb8", "rgba32float"]
"""How images are stored: rgba16float, rgba8unorm-srgb or rgba32float."""

Plane = Literal["pixels", "ids", "colors"]

BackendName = Literal["numpy", "numba", "cuda"]

Allocate = Callable[[int], NDArray[np.uint8]]
"""Returns a contiguous, uninitialised, writable uint8 array of that many bytes."""

BLOCK_BYTES = 4 << 20
"""The size of a block, in bytes: it ends with the tile row that reaches this size, or with the last of its plane."""


def allocate_array(nbytes: int) -> NDArray[np.uint8]:
    """Return memory from numpy; the default `Allocate`."""
    return np.empty(nbytes, np.uint8)


class BackendUnavailableError(RuntimeError):
    """The requested backend cannot run on this machine; the message gives the reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileBlock:
    """Consecutive tiles of one plane of one frame, ready to be written.

    The payloads of a plane's blocks, joined, are the plane's payload in the order of `pyramid_layout`.
    """

    plane: Plane
    tiles: TileIndex
    """The positions of the tiles; offsets are relative to `payload`."""
    payload: NDArray[np.uint8]
    """(nbytes,), contiguous; rows of tiles are padded with zeros to their pitch."""
    value_range: NDArray[np.float64] | None
    """(n, 2): the least and the greatest valid value of each tile (depth in metres, ids), NaN if it has no valid value.

    None for planes without ranges (images, colors)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointOrder:
    """The order in which the points of a cloud are stored: coarsest level first, Morton order within a level."""

    origin: NDArray[np.float64]
    """(d,): the least coordinate of the finite positions on each axis; zeros if no position is finite."""
    positions: NDArray[np.float32]
    """(N, d): offsets from the origin, in stored order; a non-finite position has the bits 0x7fc00000 on every axis."""
    order: NDArray[np.int64]
    """(N,): the row in which each stored position was logged."""
    counts: tuple[int, ...]
    """The number of points in levels 0, 1 ... k; the stored order begins with the points of level k."""


class OffHost(Protocol):
    """An array in the memory of a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis, in C order."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the elements."""
        ...

    def host(self, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """Return a copy in the host's memory, which comes from `allocate`."""
        ...


class Backend(Protocol):
    """Turns arrays into tiles. All backends return the same bytes, padding included; numpy is the specification.

    Arrays are C-contiguous and in native byte order; only arrays that `admit` has returned may be on a GPU. Frames may
    be requested ahead: a backend that works on several frames at once starts them together when the first block of one
    of them is taken. Nobody may change an array until all its blocks have been taken. One thread at a time may use a
    backend. The payload of a block belongs to the receiver.
    """

    @property
    def name(self) -> BackendName:
        """The name, as it is stored and shown."""
        ...

    @property
    def device(self) -> Device | None:
        """The GPU that the backend computes on; None if it computes on the host."""
        ...

    @property
    def ahead_bytes(self) -> int:
        """The bytes of frames to request before the first block of the first frame is taken; 0: one frame at a time."""
        ...

    @property
    def pin(self) -> Callable[[memoryview], Callable[[], None]] | None:
        """A function that makes copies between host memory and the device fast; None for a backend without a device.

        It returns the function that undoes this.
        """
        ...

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> Any:
        """Return an array that this backend can read.

        Args:
            array: an array in host memory or on a GPU.
            allocate: provides the host memory of a copy.

        Returns:
            `array` itself if the backend can read it, else a copy in host memory.
        """
        ...

    def is_opaque(self, image: Any) -> bool:
        """Return whether every pixel of an image has the alpha 255.

        Args:
            image: (h, w, 4) uint8.

        Returns:
            True if all alpha values are 255.
        """
        ...

    def image(
        self, image: NDArray[Any], *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return plane `pixels` of an image.

        Args:
            image: (h, w, c), c being 1 (gray), 3 (RGB) or 4 (RGB and straight alpha). uint8 and uint16 hold sRGB codes
                (alpha is linear); float16, float32 and float64 hold linear light.
            tile_format: the format of the texels.
            allocate: provides the memory of the payloads.

        Returns:
            The blocks. Texels have 4 channels of float16, uint8 or float32, premultiplied by alpha.
        """
        ...

    def depth(self, depth: NDArray[Any], *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Return plane `pixels` of a depth image.

        Args:
            depth: (h, w), uint8, uint16, float16, float32 or float64.
            meter: the number of units of `depth` in a metre; finite and greater than 0 as float32.
            allocate: provides the memory of the payloads.

        Returns:
            The blocks. Texels are float32 metres, 0 where the depth is invalid.
        """
        ...

    def segmentation(
        self, ids: NDArray[Any], *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return planes `ids` and `colors` of a segmentation.

        Args:
            ids: (h, w) uint8 or uint16 class ids.
            palette: (256, 4) or (65536, 4) uint8, sRGB with straight alpha, indexed by id.
            allocate: provides the memory of the payloads.

        Returns:
            The blocks of both planes, in any interleaving.
        """
        ...

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Return the origin, the Morton order and the levels of a cloud.

        Args:
            positions: (N, 2) or (N, 3), float32 or float64.

        Returns:
            The order in which the points are stored, and their offsets from the origin.
        """
        ...
