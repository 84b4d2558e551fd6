"""What the CUDA backend and the JPEG decoder need of a GPU: memory, streams, copies and launches.

`cuda/cuda_device.py` has the one that is a GPU; the tests have others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class DeviceError(RuntimeError):
    """The device has failed, for good; the message is CUDA's."""


class DeviceMemoryError(DeviceError):
    """The device has no memory left for this; it goes on working."""


Stream = Any
"""What is enqueued on one happens in that order."""

Event = Any
"""A point in a stream."""


class Memory(Protocol):
    """Some bytes of device memory; free again when it is garbage."""

    @property
    def pointer(self) -> int:
        """Its address, a multiple of 256."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Borrowed:
    """Somebody else's array on a device."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any
    """Keeps the memory alive."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A function of a CUDA text, compiled for one kind of array."""

    name: str
    """The function's name. It takes one struct, by value, and runs with any number of blocks of 256 threads."""
    files: tuple[str, ...]
    """The names of the .cu files whose texts, joined in this order, are compiled."""
    defines: tuple[tuple[str, str], ...] = ()
    """Macros and their values."""


class Device(Protocol):
    """What a backend needs of a GPU. Methods raise DeviceError; all may be called from several threads."""

    number: int
    """Its CUDA ordinal."""
    name: str

    def allocate(self, nbytes: int) -> Memory:
        """Uninitialised memory, straight from the driver. Raises DeviceMemoryError."""
        ...

    def stream(self) -> Stream:
        """A new stream, which waits for no other."""
        ...

    def borrowed_stream(self, handle: int) -> Stream:
        """Somebody else's stream, by its CUDA handle."""
        ...

    def borrow(self, value: Any, stream: Stream) -> Borrowed:
        """Somebody else's array on this device (DLPack or CUDA Array Interface), readable on `stream`; not copied."""
        ...

    def upload(self, to: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a contiguous host array to the device; it must stay as it is until the stream gets there."""
        ...

    def download(self, to: NDArray[np.uint8], source: int, stream: Stream) -> None:
        """Fill a contiguous host array from the device, asynchronously where its memory is pinned."""
        ...

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy on the device."""
        ...

    def zero(self, to: int, nbytes: int, stream: Stream) -> None:
        """Zero device memory."""
        ...

    def launch(self, kernel: Kernel, arguments: NDArray[Any], blocks: int, stream: Stream) -> None:
        """Run a kernel in at most `blocks` blocks; `arguments`: (1,) of its struct."""
        ...

    def argsort(self, to: int, keys: int, count: int, stream: Stream) -> None:
        """Write the (count,) int64 order that sorts uint64 keys stably to `to`."""
        ...

    def record(self, stream: Stream) -> Event:
        """The point that a stream has been enqueued to."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is enqueued on `stream` from now on waits for `event`."""
        ...

    def synchronize(self, event: Event) -> None:
        """Wait for `event` here."""
        ...

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Lock host memory in place, so that copies are asynchronous and fast; returns what undoes it."""
        ...


def settle(device: Device, *streams: Stream) -> bool:
    """Wait for all that was enqueued, after something has failed; whether it came to an end."""
    try:
        for stream in streams:
            device.synchronize(device.record(stream))
    except DeviceError:
        return False
    return True
