"""What a backend does."""

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
"""Gives a contiguous, uninitialised, writable uint8 array of that many bytes."""

BLOCK_BYTES = 4 << 20
"""A block ends with the tile row that brings it to this size, or that is its plane's last."""


def allocate_array(nbytes: int) -> NDArray[np.uint8]:
    """The default `Allocate`."""
    return np.empty(nbytes, np.uint8)


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for cannot run on this machine; the message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileBlock:
    """Some consecutive tiles of one plane of one frame, ready to be written.

    The payloads of a plane's blocks, one after another, are the plane's payload as `pyramid_layout` orders it.
    """

    plane: Plane
    tiles: TileIndex
    """Offsets are relative to `payload`."""
    payload: NDArray[np.uint8]
    """(nbytes,), contiguous; rows of tiles are padded with zeros to their pitch."""
    value_range: NDArray[np.float64] | None
    """(n, 2): least and greatest valid value of each tile (depth in metres, ids); NaN where there is none.

    None where ranges are not kept (images, colors)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PointOrder:
    """The order in which a cloud's points are stored: coarsest level first, Morton order within a level."""

    origin: NDArray[np.float64]
    """(d,): the least finite coordinate of each axis; zeros if no position is finite."""
    positions: NDArray[np.float32]
    """(N, d): offsets from the origin, in stored order; 0x7fc00000 in every axis of a non-finite position's."""
    order: NDArray[np.int64]
    """(N,): the logged row of each stored position."""
    counts: tuple[int, ...]
    """Points of level 0, 1 ... k; the stored order begins with level k's."""


class OffHost(Protocol):
    """An array that is not in the host's memory: on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes, in C order."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's word for its elements."""
        ...

    def host(self, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """A copy in the host's memory, from `allocate`."""
        ...


class Backend(Protocol):
    """Turns arrays into tiles. All backends give the same bytes, padding included; numpy is the specification.

    Arrays are C-contiguous, in native byte order; on a GPU only where `admit` has let them through. Frames may be asked
    for ahead: a backend that works on several at once starts them together when the first block of one is wanted, and
    nobody may change the arrays until their blocks have been taken. A backend may be used by one thread at a time. A
    block's payload belongs to the receiver.
    """

    @property
    def name(self) -> BackendName:
        """Its name, as stored and shown."""
        ...

    @property
    def device(self) -> Device | None:
        """The GPU that the backend computes on; None: the host."""
        ...

    @property
    def ahead_bytes(self) -> int:
        """Bytes of frames worth asking for before the first block of the first is taken; 0: one frame at a time."""
        ...

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> Any:
        """`array` where this backend can read it: as it is, or a copy on the host, in memory from `allocate`."""
        ...

    def is_opaque(self, image: Any) -> bool:
        """Whether all alpha of an image, (h, w, 4) uint8, is 255."""
        ...

    @property
    def pin(self) -> Callable[[memoryview], Callable[[], None]] | None:
        """Makes copies between host memory and the device fast, and returns what undoes it; None without a device."""
        ...

    def image(
        self, image: NDArray[Any], *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Plane `pixels` of an image.

        `image`: (h, w, c), c in 1 (gray), 3 (RGB), 4 (RGB and straight alpha); uint8 and uint16 are sRGB gamma (alpha
        linear), float16, float32 and float64 linear light.
        Texels are 4 channels of float16, uint8 or float32, premultiplied by alpha.
        """
        ...

    def depth(self, depth: NDArray[Any], *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Plane `pixels` of a depth image: float32 metres, 0 where invalid.

        `depth`: (h, w), uint8, uint16, float16, float32 or float64; `meter`: units per metre, finite and
        > 0 as float32.
        """
        ...

    def segmentation(
        self, ids: NDArray[Any], *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Planes `ids` and `colors` of a segmentation, their blocks in any interleaving.

        `ids`: (h, w) uint8 or uint16; `palette`: (256, 4) or (65536, 4) uint8 sRGB with straight alpha, indexed by id.
        """
        ...

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Origin, Morton order and levels of a cloud; `positions`: (N, 2 or 3) float32 or float64."""
        ...
