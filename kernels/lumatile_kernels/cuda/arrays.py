"""Arrays on a GPU: private copies of logged arrays, made without waiting."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.device import Device, Event, Stream

DEVICES: dict[int, Device] = {}
"""The devices that this process has used, by CUDA ordinal."""


def device_numbered(number: int) -> Device:
    """Return the device with a CUDA ordinal; there is one object for each. Raises BackendUnavailableError."""
    if number not in DEVICES:
        DEVICES[number] = CudaDevice(number)
    return DEVICES[number]


def current_device() -> Device:
    """Return the current device of the calling thread. Raises BackendUnavailableError."""
    device = CudaDevice()
    return DEVICES.setdefault(device.number, device)


_SIDES: weakref.WeakKeyDictionary[Device, Stream] = weakref.WeakKeyDictionary()


def side_stream(device: Device) -> Stream:
    """Return the stream of a device that is used for copies without a stream of their own."""
    if device not in _SIDES:
        _SIDES[device] = device.stream()
    return _SIDES[device]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceArray:
    """A C-contiguous array on a GPU, which does not change any more."""

    device: Device
    pointer: int
    """The address of the first element."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ready: Event
    """The event after which the content is in place."""
    owner: Any
    """The object that keeps the memory alive."""
    narrowed_from: np.dtype[Any] | None = None
    """The wide dtype of class ids that are uint16 now; `check_ids` tells whether they fit. None: not narrowed."""
    outside: int = 0
    """The address of the ids that did not fit; see ids.py."""

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @cached_property
    def nbytes(self) -> int:
        """The size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """Return the same content in another shape with the same number of elements."""
        return replace(self, shape=tuple(shape))

    def view(self, dtype: np.dtype[Any]) -> DeviceArray:
        """Return the same bytes as another dtype of the same size."""
        return replace(self, dtype=dtype)

    def check_ids(self) -> None:
        """Wait until class ids have been narrowed. Raises ValueError with an id that did not fit, and DeviceError."""
        if self.narrowed_from is None:
            return
        below, above = replace(self, pointer=self.outside, shape=(2,), dtype=np.dtype(np.uint64)).host().tolist()
        if below or above:
            raise ValueError(f"class ids must be 0 to 65535, not {-below or above}")

    def host(self, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """Return a copy in host memory from `allocate`, and wait for it. Raises DeviceError."""
        buffer = allocate(self.nbytes)
        stream = side_stream(self.device)
        self.device.wait(stream, self.ready)
        self.device.download(buffer, self.pointer, stream)
        self.device.synchronize(self.device.record(stream))
        return buffer.view(self.dtype).reshape(self.shape)
