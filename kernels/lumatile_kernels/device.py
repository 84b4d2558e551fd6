"""The protocol of devices: the memory, streams, copies and launches that the backend and the decoder use on a GPU.

`cuda/cuda_device.py` implements it for a GPU, and the tests for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class DeviceError(RuntimeError):
    """The device has failed permanently; the message comes from CUDA."""


class DeviceMemoryError(DeviceError):
    """The device does not have enough memory left; it continues to work."""


Stream = Any
"""A queue of the device: its operations happen in the order in which they were enqueued."""

Event = Any
"""A point in a stream; it is reached when all operations before it have happened."""


class Memory(Protocol):
    """A piece of device memory, which is freed when this object is garbage."""

    @property
    def pointer(self) -> int:
        """The address, a multiple of 256."""
        ...

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Borrowed:
    """An array on a device that another library owns."""

    pointer: int
    """The address of the first element."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any
    """The object that keeps the memory alive."""


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
    """A GPU, as the backend and the decoder use it. All methods raise DeviceError; several threads may call them."""

    number: int
    """The CUDA ordinal."""
    name: str
    """The name of the product, for messages."""

    def allocate(self, nbytes: int) -> Memory:
        """Return uninitialised memory from the driver. Raises DeviceMemoryError."""
        ...

    def stream(self) -> Stream:
        """Return a new stream, which waits for no other stream."""
        ...

    def borrowed_stream(self, handle: int) -> Stream:
        """Return the stream of another library that has this CUDA handle."""
        ...

    def borrow(self, value: Any, stream: Stream) -> Borrowed:
        """Return an array of another library on this device (DLPack or CUDA Array Interface), readable on `stream`.

        It is not copied.
        """
        ...

    def upload(self, to: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a contiguous host array to the device; nobody may change it until the stream has read it."""
        ...

    def download(self, to: NDArray[np.uint8], source: int, stream: Stream) -> None:
        """Fill a contiguous host array from the device, asynchronously if its memory is pinned."""
        ...

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy `nbytes` bytes within the device."""
        ...

    def zero(self, to: int, nbytes: int, stream: Stream) -> None:
        """Fill device memory with zeros."""
        ...

    def launch(self, kernel: Kernel, arguments: NDArray[Any], blocks: int, stream: Stream) -> None:
        """Run a kernel with at most `blocks` blocks; `arguments`: (1,) of the kernel's struct."""
        ...

    def argsort(self, to: int, keys: int, count: int, stream: Stream) -> None:
        """Write to `to` the order, (count,) int64, that sorts the uint64 keys at `keys` stably."""
        ...

    def record(self, stream: Stream) -> Event:
        """Return the point of a stream after all operations that are enqueued now."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """Make all operations that are enqueued on `stream` from now on wait for `event`."""
        ...

    def synchronize(self, event: Event) -> None:
        """Block the calling thread until `event` is reached."""
        ...

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Lock host memory in place, so that copies are asynchronous and fast; return the function that undoes it."""
        ...


def settle(device: Device, *streams: Stream) -> bool:
    """Wait for all enqueued operations after a failure; return whether they came to an end."""
    try:
        for stream in streams:
            device.synchronize(device.record(stream))
    except DeviceError:
        return False
    return True
